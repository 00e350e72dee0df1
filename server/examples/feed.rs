//! A small feed: tells the market, sends a signal, and sends it again to be sure.

use std::time::Duration;

use reqwest::{Client, header::RETRY_AFTER};
use serde_json::{Value, json};

/// Posts until the engine has room: 429 and 503 say when to try again.
async fn post(client: &Client, path: &str, body: &Value) -> Result<Value, Box<dyn std::error::Error>> {
    let (api, key) = (std::env::var("API")?, std::env::var("KEY")?);
    loop {
        let answer = client.post(format!("{api}{path}")).bearer_auth(&key).json(body).send().await?;
        if ![429, 503].contains(&answer.status().as_u16()) {
            return Ok(answer.error_for_status()?.json().await?);
        }
        let wait = answer.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
        tokio::time::sleep(Duration::from_secs(wait.unwrap_or(1))).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::new();
    let now = jiff::Timestamp::now().to_string();
    let mark = json!([{"symbol": "EURUSD", "bid": "1.08495", "ask": "1.08505", "at": now}]);
    post(&client, "/api/v1/marks", &mark).await?;
    let signal = json!({"id": "rust-1", "symbol": "EURUSD", "side": "buy", "timeframe": "9H",
        "stop_loss": "1.08300", "take_profit": "1.08900"});
    for _ in 0..2 {
        let answer = post(&client, "/api/v1/signals", &signal).await?;
        for decision in answer["decisions"].as_array().into_iter().flatten() {
            println!("{} {} duplicate={}", signal["id"], decision["verdict"], answer["duplicate"]);
        }
    }
    Ok(())
}
