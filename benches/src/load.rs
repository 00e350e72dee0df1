//! Load: closed loops for saturation, open loops for what a caller feels.
//!
//! A closed loop waits for an answer before it asks again, so a stall hides the requests that it kept from being sent. An open
//! loop sends by the clock: each latency counts from the time at which the request was to be sent, so a stall counts
//! against every request that it delayed. The lateness of the sender itself is reported beside it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::report::{Latency, Recorder, per_second};

/// What a loop found.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Found {
    /// From asking (open loop: from when it was to be asked) to the answer.
    pub latency: Latency,
    /// Answers a second.
    pub per_second: u64,
    /// Requests that failed; they are not among the latencies.
    pub failed: u64,
    /// Open loop: how late the requests were sent, which stands in their latencies.
    pub lateness: Option<Latency>,
}

/// Keeps `in_flight` requests under way for `span`. `ask` builds a request, which is not timed, and returns its sending.
pub async fn closed_loop<A, F>(in_flight: usize, span: Duration, ask: A) -> Result<Found>
where
    A: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let (ask, next) = (Arc::new(ask), Arc::new(AtomicU64::new(0)));
    let begin = Instant::now();
    let workers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (ask, next) = (Arc::clone(&ask), Arc::clone(&next));
            tokio::spawn(async move {
                let (mut recorder, mut failed) = (Recorder::new()?, 0);
                while begin.elapsed() < span {
                    let sending = ask(next.fetch_add(1, Ordering::Relaxed));
                    let asked = Instant::now();
                    match sending.await {
                        Ok(()) => recorder.record(asked.elapsed()),
                        Err(_) => failed += 1,
                    }
                }
                anyhow::Ok((recorder, failed))
            })
        })
        .collect();
    let (mut all, mut failed) = (Recorder::new()?, 0);
    for worker in workers {
        let (recorder, failures) = worker.await??;
        all.add(&recorder)?;
        failed += failures;
    }
    let latency = all.latency();
    Ok(Found { latency, per_second: per_second(latency.count, begin.elapsed()), failed, lateness: None })
}

/// Somebody who asks over and over on something of their own, such as a connection.
pub trait Caller: Send + 'static {
    /// Makes the request of this number ready; not timed. False: there is nothing more to ask.
    fn prepare(&mut self, number: u64) -> Result<bool>;

    /// Sends it and waits for its answer. An answer that is not as it should be is an error, and ends the measurement.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Keeps every one of `callers` asking for `span`, with a rest before each request that is not timed. Their numbers go on from
/// `first`; the one that comes next is returned, too.
pub async fn closed_loop_of<C: Caller>(
    callers: Vec<C>,
    span: Duration,
    rest: Duration,
    first: u64,
) -> Result<(Found, u64)> {
    let next = Arc::new(AtomicU64::new(first));
    let begin = Instant::now();
    let ask = |mut caller: C| {
        let next = Arc::clone(&next);
        async move {
            let mut recorder = Recorder::new()?;
            while begin.elapsed() < span && caller.prepare(next.fetch_add(1, Ordering::Relaxed))? {
                if !rest.is_zero() {
                    tokio::time::sleep(rest).await;
                }
                let asked = Instant::now();
                caller.call().await?;
                recorder.record(asked.elapsed());
            }
            anyhow::Ok(recorder)
        }
    };
    let workers: Vec<_> = callers.into_iter().map(|caller| tokio::spawn(ask(caller))).collect();
    let mut all = Recorder::new()?;
    for worker in workers {
        all.add(&worker.await??)?;
    }
    let latency = all.latency();
    let found = Found { latency, per_second: per_second(latency.count, begin.elapsed()), failed: 0, lateness: None };
    Ok((found, next.load(Ordering::Relaxed)))
}

/// Sends `rate` requests a second for `span`, whatever becomes of them.
pub async fn open_loop<A, F>(rate: u64, span: Duration, ask: A) -> Result<Found>
where
    A: Fn(u64) -> F + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    // Bounded by the number of requests of the run: one message each.
    let (answers, mut answered) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Handle::current();
    let begin = Instant::now();
    // A thread of its own: the runtime's timer ticks in milliseconds, the kernel's in some ten microseconds.
    let pacer = std::thread::spawn(move || -> Result<Recorder> {
        let mut lateness = Recorder::new()?;
        let total = u64::try_from(span.as_nanos() * u128::from(rate) / 1_000_000_000)?;
        for n in 0..total {
            let due = begin + Duration::from_nanos(u64::try_from(u128::from(n) * 1_000_000_000 / u128::from(rate))?);
            let sending = ask(n);
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            lateness.record(due.elapsed());
            let answers = answers.clone();
            runtime.spawn(async move {
                let outcome = sending.await;
                // Fails only when the measurement has been given up.
                let _ = answers.send((outcome.is_ok(), due.elapsed()));
            });
        }
        Ok(lateness)
    });
    let (mut recorder, mut failed) = (Recorder::new()?, 0);
    while let Some((answered, latency)) = answered.recv().await {
        if answered { recorder.record(latency) } else { failed += 1 }
    }
    let took = begin.elapsed();
    let lateness = pacer.join().ok().context("the pacing thread panicked")??.latency();
    let latency = recorder.latency();
    Ok(Found { latency, per_second: per_second(latency.count, took), failed, lateness: Some(lateness) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    const SPAN: Duration = Duration::from_millis(400);
    const STALL: Duration = Duration::from_millis(100);

    /// Answers at once, but for one stall during which everybody waits.
    fn stalling() -> impl Fn(u64) -> futures::future::BoxFuture<'static, Result<()>> + Send + Sync + 'static {
        let (gate, stalled) = (Arc::new(tokio::sync::Mutex::new(())), Arc::new(AtomicBool::new(false)));
        move |n| {
            let (gate, stalled) = (Arc::clone(&gate), Arc::clone(&stalled));
            Box::pin(async move {
                let held = gate.lock().await;
                if n >= 20 && !stalled.swap(true, Ordering::SeqCst) {
                    tokio::time::sleep(STALL).await;
                }
                drop(held);
                Ok(())
            })
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stall_counts_against_every_request_that_it_delayed() {
        let open = open_loop(1_000, SPAN, stalling()).await.unwrap();
        assert_eq!(open.latency.count, 400);
        // A quarter of the requests fell due during the stall: half of them waited for more than half of it.
        assert!(Duration::from_nanos(open.latency.p90_ns) > STALL / 3, "{open:?}");
        let closed = closed_loop(1, SPAN, stalling()).await.unwrap();
        assert!(Duration::from_nanos(closed.latency.p90_ns) < STALL / 3, "{closed:?}");
        assert!(Duration::from_nanos(closed.latency.max_ns) >= STALL, "{closed:?}");
    }

    #[tokio::test]
    async fn failures_are_counted_and_not_timed() {
        let ask = |n: u64| async move { if n.is_multiple_of(2) { Ok(()) } else { anyhow::bail!("refused") } };
        let found = open_loop(1_000, Duration::from_millis(50), ask).await.unwrap();
        assert_eq!((found.latency.count, found.failed), (25, 25));
    }
}
