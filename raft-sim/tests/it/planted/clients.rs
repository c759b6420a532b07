//! Clients that make of a "maybe" what it is not.

use async_trait::async_trait;
use raft_sim::history::Ended;
use raft_sim::model::machine::{MachineModel, Request};
use raft_sim::workload::Factory;
use raft_sim::{Session, Workload};

use super::accounts::{Accounts, draw, requests};

/// What a client does that does not know whether its command took effect.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Maybe {
    /// It sends the command once more, and takes it for one.
    Repeated,
    /// It takes the command for lost.
    TakenForNo,
}

#[async_trait]
impl Workload for Maybe {
    type Machine = Accounts;
    type Model = MachineModel<Accounts>;

    fn model(&self, machine: &Factory<Accounts>) -> MachineModel<Accounts> {
        Workload::model(&requests(), machine)
    }

    async fn operation(&self, session: &mut Session<Maybe>) {
        let command = draw(session.random());
        let (client, maybe) = (session.client(), *self);
        let input = Request::command::<Accounts>(&command).unwrap();
        let call = async move {
            loop {
                match (client.propose(&command).await, maybe) {
                    (Ok(balance), _) => {
                        return Ended::Answered(postcard::to_allocvec(&balance).unwrap().into());
                    }
                    (Err(error), Maybe::Repeated) if error.may_take_effect() => {}
                    (Err(_), Maybe::Repeated | Maybe::TakenForNo) => return Ended::Failed,
                }
            }
        };
        session.record(input, call).await;
    }
}
