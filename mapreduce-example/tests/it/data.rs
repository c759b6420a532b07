//! Jobs carried out task by task, without a coordinator.

mod damage;
mod equality;
mod failures;
mod growth;
mod hand;
mod inputs;
mod merged;
mod publication;
mod registry;
mod signs;
