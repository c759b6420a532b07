//! The program as its users meet it: processes, signals, exit codes.

mod bad_input;
mod commands;
mod crashes;
mod demo;
mod process;
