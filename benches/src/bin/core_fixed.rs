//! `core_fixed BATCH ENTRIES`: commits a fixed number of entries of 256 bytes, for tools that count instructions.

use std::process::ExitCode;

use benches::{CoreCluster, commands};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("core_fixed: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [batch, entries] = &arguments[..] else {
        return Err("usage: core_fixed BATCH ENTRIES".into());
    };
    let (batch, entries): (usize, u64) = (batch.parse()?, entries.parse()?);
    if batch == 0 {
        return Err("BATCH is 0".into());
    }
    let mut cluster = CoreCluster::elected()?;
    let mut done = 0;
    while done < entries {
        cluster.commit(commands(batch, 256))?;
        done += batch as u64;
    }
    let counters = cluster.counters();
    let agree = counters.iter().all(|counter| counter.commands == done && *counter == counters[0]);
    if !agree {
        return Err(format!("the nodes disagree: {counters:?}").into());
    }
    println!("{done} entries in batches of {batch}");
    Ok(())
}
