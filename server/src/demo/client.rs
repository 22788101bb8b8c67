//! The demo's client: what an SDK does, reduced to one request.

use std::{net::SocketAddr, time::Duration};

use aibridge_core::api::Api;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::{
    script::Scene,
    timeline::{Happening, Timeline},
};

/// A bridge that is slower than this does not work.
const PATIENCE: Duration = Duration::from_secs(10);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the client got.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) status: StatusCode,
    /// `x-aibridge-id`
    pub(super) id: Option<String>,
    pub(super) text: String,
    /// A stream of chat completions told its usage, for which the client did not ask.
    pub(super) unasked_usage: bool,
}

/// Plays the client's part of a scene.
pub(super) async fn ask(
    bridge: SocketAddr,
    scene: &Scene,
    timeline: &Timeline,
) -> Result<Heard, Error> {
    timeline.add(Happening::Asked);
    let reply = send(bridge, Method::POST, scene.path(), scene.body().to_string()).await?;
    let status = reply.status();
    timeline.add(Happening::Head { status });
    let id = reply
        .headers()
        .get("x-aibridge-id")
        .and_then(|id| id.to_str().ok())
        .map(str::to_owned);

    let mut body = reply.into_body();
    let mut received = Vec::new();
    while let Some(frame) = timeout(PATIENCE, body.frame()).await? {
        if received.is_empty() && scene.streaming && status.is_success() {
            timeline.add(Happening::FirstEvent);
        }
        received.extend_from_slice(&frame?.into_data().unwrap_or_default());
    }
    let received = String::from_utf8(received)?;
    let (text, unasked_usage) = if scene.streaming {
        read_stream(scene.api, &received)
    } else {
        (read_whole(&received), false)
    };
    timeline.add(Happening::Ended { text: text.clone() });
    Ok(Heard {
        status,
        id,
        text,
        unasked_usage,
    })
}

/// Asks for a JSON document.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<Value, Error> {
    let reply = send(address, Method::GET, path, String::new()).await?;
    let body = timeout(PATIENCE, reply.into_body().collect()).await??;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

/// Sends a request on a connection of its own, and returns the reply once its head is here.
async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: String,
) -> Result<http::Response<Incoming>, Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(
            header::USER_AGENT,
            concat!("aibridge-demo/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::from(body))?;
    Ok(timeout(PATIENCE, sender.send_request(request)).await??)
}

/// The text of a stream, and whether there was usage in a chat's.
pub(super) fn read_stream(api: Api, stream: &str) -> (String, bool) {
    let mut text = String::new();
    let mut usage = false;
    let data = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    for event in data.filter_map(|data| serde_json::from_str::<Value>(data).ok()) {
        let piece = match api {
            Api::Messages => &event["delta"]["text"],
            Api::ChatCompletions => &event["choices"][0]["delta"]["content"],
            Api::Responses => &event["delta"],
        };
        text.push_str(piece.as_str().unwrap_or_default());
        usage |= api == Api::ChatCompletions && event["usage"].is_object();
    }
    (text, usage)
}

/// The text of a whole Messages reply, the one that the script asks for without a stream.
fn read_whole(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    body["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}
