//! A stream of signals: one line in, one line out, in order.
//!
//! At most `IN_FLIGHT_MAX` lines are under way; then nothing more is read until the first of them is answered, and the
//! caller feels it as back-pressure. A line that is wrong gets its problem and the stream goes on. The stream ends when
//! the body does, when it stalls, when the feed's key is ended, or when the server stops - the last three with a
//! problem as its last line, so that a caller knows how far it got.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BytesMut};
use futures::{Stream, StreamExt};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;

use super::app::{App, Bounds};
use super::body::BODY_BYTES_MAX;
use super::problem::Problem;
use super::signals::{IN_FLIGHT_MAX, submit_one};
use crate::auth::principal::KnownFeed;
use crate::wire::json;

/// Answers a stream of signals with a stream of answers.
pub fn answer(app: Arc<App>, known: KnownFeed, body: Body) -> Response {
    let Bounds { body_timeout, rest_timeout, .. } = app.settings.bounds;
    let lines = Lines::new(body, BODY_BYTES_MAX, (body_timeout, rest_timeout), app.stopping.clone());
    let answers =
        lines.into_stream().map(move |line| answer_line(Arc::clone(&app), known.clone(), line)).buffered(IN_FLIGHT_MAX);
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(until_the_last(answers))).into_response()
}

/// The lines up to the one that ends the stream. Nothing is waited for after that: the caller may keep the body open.
fn until_the_last(answers: impl Stream<Item = (bool, Bytes)>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures::stream::unfold((Box::pin(answers), false), |(mut answers, has_ended)| async move {
        if has_ended {
            return None;
        }
        let (ends, line) = answers.next().await?;
        Some((Ok(line), (answers, ends)))
    })
}

/// The answer to a line, and whether the stream ends with it.
async fn answer_line(app: Arc<App>, known: KnownFeed, line: Line) -> (bool, Bytes) {
    let (ends, problem) = match line {
        Line::Text(text) => match app.auth.feeds.feed_by_hash(&known.key_hash).await {
            Ok(Some(_)) => match answer_signal(&app, &known, &text).await {
                Ok(answer) => return (false, answer),
                Err(problem) => (false, problem),
            },
            Ok(None) => (true, Problem::bad_credentials()),
            Err(error) => (false, error.into()),
        },
        Line::TooLong => (false, Problem::too_large("a line", BODY_BYTES_MAX)),
        Line::Stalled => (true, Problem::too_slow()),
        Line::Broken => (true, Problem::malformed("the body broke off")),
        Line::Stopping => (true, Problem::unavailable("the server is stopping; send the rest again")),
    };
    (ends, with_newline(problem.to_json()))
}

async fn answer_signal(app: &App, known: &KnownFeed, text: &[u8]) -> Result<Bytes, Problem> {
    let answer = submit_one(app, known.feed.id, json::decode(text)?, None).await?;
    let line = serde_json::to_vec(&answer).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        Problem::internal()
    })?;
    Ok(with_newline(line))
}

fn with_newline(mut line: Vec<u8>) -> Bytes {
    line.push(b'\n');
    line.into()
}

/// What stands where a line is expected.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Line {
    /// A line that is not blank.
    Text(Bytes),
    /// More bytes than a line may have; the rest of it is skipped.
    TooLong,
    /// Nothing came for too long. The last.
    Stalled,
    /// The body broke off. The last.
    Broken,
    /// The server is stopping. The last.
    Stopping,
}

impl Line {
    fn is_last(&self) -> bool {
        matches!(self, Self::Stalled | Self::Broken | Self::Stopping)
    }
}

/// Cuts a body into lines, holding at most one line of it.
struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Bytes at the front of the buffer that are known to hold no newline.
    searched: usize,
    is_skipping: bool,
    has_ended: bool,
    bytes_max: usize,
    /// Between two pieces of a line.
    piece_timeout: Duration,
    /// Between two lines.
    rest_timeout: Duration,
    stopping: CancellationToken,
}

impl Lines {
    fn new(body: Body, bytes_max: usize, timeouts: (Duration, Duration), stopping: CancellationToken) -> Self {
        let (piece_timeout, rest_timeout) = timeouts;
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
            is_skipping: false,
            has_ended: false,
            bytes_max,
            piece_timeout,
            rest_timeout,
            stopping,
        }
    }

    fn into_stream(self) -> impl Stream<Item = Line> {
        futures::stream::unfold(self, |mut lines| async move {
            let line = lines.next().await?;
            if line.is_last() {
                lines.has_ended = true;
                lines.buffer.clear();
                lines.searched = 0;
            }
            Some((line, lines))
        })
    }

    async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.take_line() {
                return Some(line);
            }
            if self.has_ended {
                return self.take_rest();
            }
            let is_resting = self.buffer.is_empty() && !self.is_skipping;
            let timeout = if is_resting { self.rest_timeout } else { self.piece_timeout };
            let frame = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Some(Line::Stopping),
                frame = tokio::time::timeout(timeout, self.body.frame()) => frame,
            };
            match frame {
                Err(_) => return Some(Line::Stalled),
                Ok(None) => self.has_ended = true,
                Ok(Some(Err(_))) => return Some(Line::Broken),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// The next whole line in the buffer that is worth an answer.
    fn take_line(&mut self) -> Option<Line> {
        while let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            let length = self.searched + at;
            let text = self.buffer.split_to(length).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if std::mem::take(&mut self.is_skipping) {
                continue;
            }
            if length > self.bytes_max {
                return Some(Line::TooLong);
            }
            if !text.trim_ascii().is_empty() {
                return Some(Line::Text(text));
            }
        }
        self.searched = self.buffer.len();
        if self.is_skipping || self.searched > self.bytes_max {
            self.buffer.clear();
            self.searched = 0;
            let is_first = !std::mem::replace(&mut self.is_skipping, true);
            return is_first.then_some(Line::TooLong);
        }
        None
    }

    /// What stands after the last newline.
    fn take_rest(&mut self) -> Option<Line> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        self.searched = 0;
        (!self.is_skipping && !rest.trim_ascii().is_empty()).then_some(Line::Text(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(10);

    async fn lines(pieces: Vec<&'static str>, bytes_max: usize) -> Vec<Line> {
        let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
        let lines = Lines::new(body, bytes_max, (LONG, LONG), CancellationToken::new());
        lines.into_stream().collect().await
    }

    fn text(text: &'static str) -> Line {
        Line::Text(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn lines_are_whole_however_the_body_is_cut() {
        let expected = vec![text("one"), text("two"), text("three")];
        for pieces in
            [vec!["one\ntwo\nthree"], vec!["one\ntwo\nthree\n"], vec!["o", "ne", "\n", "\n  \n", "two\nth", "ree"]]
        {
            assert_eq!(lines(pieces, 10).await, expected);
        }
        assert_eq!(lines(vec![], 10).await, vec![]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_refused_and_skipped() {
        let expected = vec![text("a"), Line::TooLong, text("b")];
        for pieces in [
            vec!["a\n12345\nb"],
            vec!["a\n", "123", "456", "789012345678901234567890", "\nb\n"],
            vec!["a\n1234", "5\nb"],
        ] {
            assert_eq!(lines(pieces, 4).await, expected);
        }
        assert_eq!(lines(vec!["1234\n"], 4).await, vec![text("1234")]);
        assert_eq!(lines(vec!["12345"], 4).await, vec![Line::TooLong]);
    }

    #[tokio::test]
    async fn a_stream_that_stalls_or_is_stopped_says_so_and_ends() {
        let endless = |first: &'static str| {
            let first = stream::iter([Ok::<_, Infallible>(first)]);
            Body::from_stream(first.chain(stream::pending()))
        };
        for (first, timeouts) in [("a\nhalf", (SHORT, LONG)), ("a\n", (LONG, SHORT)), ("a\n12345678901", (SHORT, LONG))]
        {
            let stalled = Lines::new(endless(first), 10, timeouts, CancellationToken::new()).into_stream();
            let seen = stalled.collect::<Vec<_>>().await;
            assert_eq!((&seen[0], seen.last()), (&text("a"), Some(&Line::Stalled)), "{first}");
        }
        let stopping = CancellationToken::new();
        let stopped = Lines::new(endless("a\nhalf"), 10, (LONG, LONG), stopping.clone()).into_stream();
        stopping.cancel();
        assert_eq!(stopped.collect::<Vec<_>>().await.last(), Some(&Line::Stopping));
    }
}
