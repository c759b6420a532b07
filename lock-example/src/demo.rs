//! The demonstration: waiters in order, a holder that is killed, and one that is paused and comes back too late.

mod holder;
mod nodes;

use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kv_example::failure::Failure;
use serde_json::{Value, json};

use self::holder::Holder;
use self::nodes::Nodes;
use crate::cli::locks;
use crate::fence::{FencedFile, Token};
use crate::fenced::FencedLock;
use crate::say::say;

/// Longer than anything here takes; it only ends a demonstration that has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The time of the leases: after it, a lock that nobody keeps passes on.
const TTL: Duration = Duration::from_secs(2);

const WORKERS: usize = 5;

/// How often the length of a line is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Runs the demonstration, and tells about it on stdout, an object a line if `json`.
///
/// # Errors
/// Something went otherwise than a lock promises, or it did not get as far as that.
pub async fn run(json: bool) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("lock-example-").tempdir().map_err(|error| {
        Failure::environment(format!("cannot create a temporary directory: {error}"))
    })?;
    let demo = async {
        let nodes = Nodes::start(dir.path()).await?;
        let stage = Stage::new(json, &nodes, dir.path())?;
        stage.tell("started", &format!("three nodes: {}", nodes.cluster()), json!({}));
        let shown = stage.show().await;
        nodes.shutdown().await;
        shown
    };
    tokio::select! {
        biased;
        outcome = demo => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::environment("interrupted")),
    }
}

struct Stage {
    json: bool,
    locks: FencedLock,
    cluster: String,
    file: FencedFile,
    path: std::path::PathBuf,
}

impl Stage {
    fn new(json: bool, nodes: &Nodes, dir: &Path) -> Result<Stage, Failure> {
        let path = dir.join("fenced.txt");
        Ok(Stage {
            json,
            locks: locks(nodes.cluster(), PATIENCE)?,
            cluster: nodes.cluster().to_string(),
            file: FencedFile::new(&path),
            path,
        })
    }

    async fn show(&self) -> Result<(), Failure> {
        self.contention().await?;
        self.killed_holder().await?;
        self.paused_holder().await?;
        let file = std::fs::read_to_string(&self.path).map_err(Failure::environment)?;
        self.tell(
            "file",
            "the file, each line behind its token:",
            json!({ "lines": file.lines().collect::<Vec<_>>() }),
        );
        if !self.json {
            file.lines().for_each(|line| say(&format!("  {}", line.replace('\t', "  "))));
        }
        Ok(())
    }

    /// Workers come one after the other while the first one holds the lock, and have their turn in that order.
    async fn contention(&self) -> Result<(), Failure> {
        let (start, begins) = tokio::sync::watch::channel(false);
        let mut workers = Vec::new();
        for number in 1..=WORKERS {
            let (locks, file) = (self.locks.clone(), self.file.clone());
            let worker = tokio::spawn(work(locks, file, number, begins.clone()));
            self.until_in_line("busy", number).await?;
            workers.push(worker);
        }
        let names: Vec<_> = (1..=WORKERS).map(|number| number.to_string()).collect();
        let text = format!("workers {} came in this order", names.join(", "));
        self.tell("contention", &text, json!({ "workers": WORKERS }));
        // The first holder goes on when all the others wait.
        let _ = start.send(true);
        let mut tokens = Vec::new();
        for ended in join_all(workers).await {
            tokens.push(ended.map_err(Failure::environment)??);
        }
        for (number, token) in (1..).zip(&tokens) {
            let text = format!("  worker {number} had its turn with token {token}");
            self.tell("turn", &text, json!({ "worker": number, "token": token.0.0 }));
        }
        match tokens.is_sorted() {
            true => Ok(()),
            false => Err(Failure::refused(
                "they did not have their turns in the order in which they came",
            )),
        }
    }

    async fn killed_holder(&self) -> Result<(), Failure> {
        let mut holder = Holder::start(&self.cluster, "fragile", TTL, &self.path).await?;
        holder.write("written by a process that is killed").await?;
        let token = holder.token();
        self.tell(
            "held",
            &format!("a process holds another lock with token {token}"),
            json!({ "token": token.0.0 }),
        );
        holder.kill().await?;
        let begin = Instant::now();
        let text = "killed it with -9, while it holds the lock";
        self.tell("killed", text, json!({ "ttl_ms": millis(TTL) }));
        let next =
            self.locks.acquire("fragile", TTL, PATIENCE).await.map_err(Failure::environment)?;
        let waited = begin.elapsed();
        let text = format!(
            "  the lock passed on after {:.2} s, with token {}; its leases live {} s",
            waited.as_secs_f64(),
            next.token(),
            TTL.as_secs()
        );
        self.tell(
            "passed",
            &text,
            json!({ "token": next.token().0.0, "waited_ms": millis(waited) }),
        );
        next.release().await.map_err(Failure::environment)
    }

    async fn paused_holder(&self) -> Result<(), Failure> {
        let mut holder = Holder::start(&self.cluster, "paused", TTL, &self.path).await?;
        let old = holder.token();
        self.tell(
            "held",
            &format!("a process holds a third lock with token {old}"),
            json!({ "token": old.0.0 }),
        );
        holder.pause()?;
        self.tell("paused", "paused it, while it holds the lock", json!({}));
        let next =
            self.locks.acquire("paused", TTL, PATIENCE).await.map_err(Failure::environment)?;
        let written = self.file.append(next.token(), "written by the next holder");
        written.map_err(Failure::environment)?;
        let text = format!(
            "  the lock passed on, with token {}, and its holder wrote to the file",
            next.token()
        );
        self.tell("passed", &text, json!({ "token": next.token().0.0 }));
        holder.resume()?;
        let answer = holder.write("written by a holder that overslept").await?;
        let text = format!("woke it up, and it writes at once: {answer}");
        self.tell("resumed", &text, json!({ "answer": answer }));
        next.release().await.map_err(Failure::environment)?;
        holder.kill().await?;
        match answer.starts_with("refused: ") {
            true => Ok(()),
            false => Err(Failure::refused("the fence let a holder through that came too late")),
        }
    }

    async fn until_in_line(&self, name: &str, count: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while self.locks.in_line(name).await.map_err(Failure::environment)? < count {
            if Instant::now() >= deadline {
                return Err(Failure::environment(format!("{count} workers do not stand in line")));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn tell(&self, event: &str, text: &str, facts: Value) {
        if !self.json {
            return say(text);
        }
        let mut object = json!({ "event": event });
        if let (Some(object), Value::Object(facts)) = (object.as_object_mut(), facts) {
            object.extend(facts);
        }
        say(&object.to_string());
    }
}

/// One worker: its turn comes, it writes a line, and passes the lock on. Returns its token.
async fn work(
    locks: FencedLock,
    file: FencedFile,
    number: usize,
    mut begins: tokio::sync::watch::Receiver<bool>,
) -> Result<Token, Failure> {
    let guard = locks.acquire("busy", TTL, PATIENCE).await.map_err(Failure::environment)?;
    // Whoever does not begin any more has been left alone.
    let _ = begins.wait_for(|begins| *begins).await;
    let written = file.append(guard.token(), &format!("written by worker {number}"));
    written.map_err(Failure::environment)?;
    guard.release().await.map_err(Failure::environment)?;
    Ok(guard.token())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
