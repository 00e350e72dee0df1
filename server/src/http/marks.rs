//! Marks: prices that feeds push.
//!
//! A list is taken whole or not at all, because a feed that sends nonsense in one place is not to be believed in another.
//! Which symbols a feed may price is checked here, what the prices mean is the engine's.

use std::sync::Arc;

use axum::extract::{Request, State};
use nexus_engine::ids::Timestamp;
use nexus_engine::instrument::Mark;
use nexus_store::directory::Feed;

use super::app::{App, to_the_end};
use super::body;
use super::extract::Source;
use super::problem::Problem;
use crate::wire::fields::FieldError;
use crate::wire::json;
use crate::wire::marks::{MarkBody, MarksAnswerBody};

/// Marks in one list.
const LIST_MAX: usize = 10_000;
/// The most bytes of a list: 10,000 marks with room to spare.
const LIST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Pushes marks
///
/// A list of at most 10,000, oldest first. The whole list is refused when one of them is wrong. Those that are not newer
/// than what is known are acknowledged and ignored, so a repeat is safe. A time ahead of the engine's clock by more than
/// `future_tolerance_seconds` is wrong. An engine with a simulated clock takes its time from them, and answers when all
/// that they caused is at rest.
#[utoipa::path(
    post, path = "/api/v1/marks", tag = "Marks", request_body = Vec<MarkBody>,
    responses((status = 200, description = "Taken, and acted on", body = MarksAnswerBody)),
    security(("api_key" = []))
)]
pub async fn push(
    State(app): State<Arc<App>>,
    Source(known): Source,
    request: Request,
) -> Result<axum::Json<MarksAnswerBody>, Problem> {
    body::require_json(request.headers())?;
    let body = body::read(request, LIST_BYTES_MAX, app.settings.bounds.body_timeout).await?;
    let marks = parse(&app, json::decode(&body)?)?;
    check_sources(&known.feed, &marks)?;
    to_the_end(async move { Ok(axum::Json(app.engine.push_marks(marks).await?.into())) }).await
}

fn parse(app: &App, bodies: Vec<MarkBody>) -> Result<Vec<Mark>, Problem> {
    if bodies.len() > LIST_MAX {
        return Err(Problem::invalid_field("", "too_many", format!("a list may have at most {LIST_MAX} marks")));
    }
    // Marks carry simulated time: there none is ahead of it.
    let latest = match app.clock.simulation() {
        Some(_) => Timestamp::from_micros(i64::MAX),
        None => app.clock.now().after(app.settings.ceilings.future_tolerance),
    };
    let (mut marks, mut errors) = (Vec::with_capacity(bodies.len()), Vec::new());
    for (index, body) in bodies.into_iter().enumerate() {
        match body.parse(index, latest, |symbol| app.engine.instrument(symbol).is_some()) {
            Ok(mark) => marks.push(mark),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(marks) } else { Err(errors.into()) }
}

/// A feed that is the source of some symbols pushes the marks of those alone.
fn check_sources(feed: &Feed, marks: &[Mark]) -> Result<(), Problem> {
    let is_foreign = |mark: &Mark| !feed.symbols.is_empty() && !feed.symbols.contains(&mark.symbol);
    let errors: Vec<_> = marks
        .iter()
        .enumerate()
        .filter(|(_, mark)| is_foreign(mark))
        .map(|(index, mark)| FieldError {
            field: format!("[{index}].symbol"),
            code: "not_its_source",
            message: format!("this feed is not a source of marks of {}", mark.symbol),
        })
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Problem::forbidden_fields("this feed may not push marks of all these symbols", errors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_engine::ids::FeedId;
    use nexus_engine::units::Price;

    #[test]
    fn a_feed_pushes_marks_of_its_symbols_alone() {
        let symbols = |names: &[&str]| names.iter().map(|name| name.parse().expect("a symbol")).collect();
        let mark = |symbol: &str| Mark {
            symbol: symbol.parse().expect("a symbol"),
            bid: Price::whole(1),
            ask: Price::whole(1),
            at: Timestamp::ZERO,
        };
        for (its, pushed, is_allowed) in
            [(&[][..], "BTCUSD", true), (&["EURUSD"][..], "EURUSD", true), (&["EURUSD"][..], "BTCUSD", false)]
        {
            let id = FeedId(uuid::Uuid::nil());
            let feed = Feed { id, name: "f".into(), symbols: symbols(its), created_at: Timestamp::ZERO };
            let result = check_sources(&feed, &[mark(pushed)]);
            assert_eq!(result.map_err(|problem| problem.status().as_u16()), if is_allowed { Ok(()) } else { Err(403) });
        }
    }
}
