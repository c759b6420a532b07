//! How a job goes on: a bar for each phase on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::coordinator::{Clerk, ClerkError, JobState, JobView, Phase, Progress};
use crate::data::Stores;
use crate::failure::Failure;
use crate::process::tell;
use crate::task::JobId;

/// A job is looked at this often.
const EACH: Duration = Duration::from_millis(200);

/// Without a terminal there is a line each time that so many hundredths more of a phase are done.
const LINE_EACH_PERCENT: u32 = 25;

/// Shows how a job goes on until it has ended, and returns how it stands then.
///
/// # Errors
/// Nobody knows it, or nobody answers: it may go on.
pub async fn follow(clerk: &Clerk, job: JobId) -> Result<JobView, Failure> {
    let mut shown = Shown::new(job);
    loop {
        let state = clerk.done(job, EACH).await?;
        let view = match state {
            Some(_) => clerk.job(job).await?,
            None => None,
        };
        let Some(view) = view else { return Err(ClerkError::NoJob.into()) };
        shown.show(&view);
        match &view.state {
            JobState::Unfinished => {}
            JobState::Succeeded | JobState::Failed(_) | JobState::Cancelled => return Ok(view),
        }
    }
}

/// What of a job is on the screen.
pub struct Shown {
    job: JobId,
    bars: Option<[ProgressBar; 2]>,
    /// Of each phase, the hundredths at which a line was printed last.
    told: [Option<u32>; 2],
}

impl Shown {
    /// Nothing yet.
    #[must_use]
    pub fn new(job: JobId) -> Shown {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            ["map", "reduce"].map(|name| {
                let bar = all.add(ProgressBar::new(0));
                let template = "{prefix:>6} {wide_bar} {pos}/{len} {msg}";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.set_prefix(name);
                bar
            })
        });
        Shown { job, bars, told: [None; 2] }
    }

    /// Shows how the job stands.
    pub fn show(&mut self, view: &JobView) {
        let summary = &view.summary;
        let phases = [(Phase::Map, &summary.maps), (Phase::Reduce, &summary.reduces)];
        for (number, (phase, progress)) in phases.into_iter().enumerate() {
            match &self.bars {
                Some(bars) => show_bar(&bars[number], progress, view, phase),
                None => self.tell(number, phase, progress),
            }
        }
        if let (Some(bars), false) = (&self.bars, matches!(view.state, JobState::Unfinished)) {
            bars.iter().for_each(ProgressBar::finish_and_clear);
        }
    }

    fn tell(&mut self, number: usize, phase: Phase, progress: &Progress) {
        let Progress { tasks, done, counts, .. } = progress;
        let percent = done.saturating_mul(100).checked_div(*tasks).unwrap_or(100);
        let step = percent / LINE_EACH_PERCENT;
        if *done > 0 && self.told[number].is_none_or(|told| told < step) {
            self.told[number] = Some(step);
            tell(&format!("job {}: {phase} {done}/{tasks}, {}", self.job, bytes(counts.bytes_in)));
        }
    }
}

fn show_bar(bar: &ProgressBar, progress: &Progress, view: &JobView, phase: Phase) {
    bar.set_length(progress.tasks.into());
    bar.set_position(progress.done.into());
    let slow = view.running.iter().filter(|one| one.is_straggler).count();
    let message = match (view.summary.phase == phase, slow) {
        (true, 0) => {
            format!("{} running, {}", view.summary.running, bytes(progress.counts.bytes_in))
        }
        (true, slow) => format!("{} running, {slow} slow", view.summary.running),
        (false, _) => bytes(progress.counts.bytes_in),
    };
    bar.set_message(message);
}

/// A number of bytes for people: `17 B`, `1.0 KiB`, `20.5 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, unit_bytes) in UNITS {
        if bytes >= unit_bytes {
            return format!(
                "{}.{} {unit}",
                bytes / unit_bytes,
                bytes % unit_bytes * 10 / unit_bytes
            );
        }
    }
    format!("{bytes} B")
}

/// A place of data for people: the path of what is on this machine.
#[must_use]
pub fn place(url: &str) -> String {
    Stores::new().locate(url).map_or_else(|_| url.to_owned(), |place| place.name())
}

/// A time for people: `1.5 s`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
