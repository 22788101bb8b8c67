//! A provider that plays a script: Anthropic's and OpenAI's APIs on one local address, no model
//! behind them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use aibridge_core::{Secret, api::Api};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    replies, script,
    timeline::{Happening, Timeline},
};

/// Between two events of a stream: long enough to see that they come one by one.
const PACE: Duration = Duration::from_millis(12);

/// Serves on a free local port until the runtime ends.
pub(super) async fn start(timeline: Arc<Timeline>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let timeline = Arc::clone(&timeline);
            tokio::spawn(async move {
                // Or an event would wait for the one before it to be acknowledged.
                let _ = stream.set_nodelay(true);
                let answer = service_fn(|request| answer(request, &timeline));
                // A client that leaves is no news here.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(
    request: Request<Incoming>,
    timeline: &Arc<Timeline>,
) -> Result<Response<Script>, Infallible> {
    let (head, body) = request.into_parts();
    let api = match head.uri.path() {
        "/v1/messages" => Api::Messages,
        "/v1/chat/completions" => Api::ChatCompletions,
        "/v1/responses" => Api::Responses,
        _ => {
            return Ok(plain(
                StatusCode::NOT_FOUND,
                "{\"error\":{\"message\":\"no such path\"}}".into(),
            ));
        }
    };
    let key = credential(&head.headers).unwrap_or_default();
    timeline.add(Happening::Called {
        hint: Secret::new(key).hint(),
    });
    let status = if head.method == Method::POST {
        script::judge(key)
    } else {
        StatusCode::METHOD_NOT_ALLOWED
    };
    let body = body
        .collect()
        .await
        .map(Collected::to_bytes)
        .unwrap_or_default();
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let streaming = status.is_success() && request["stream"] == true;

    let reply = if streaming {
        let asked = request["stream_options"]["include_usage"] == true;
        let model = request["model"].as_str().unwrap_or_default();
        let question = question(&request);
        let events = match script::tool_for(question) {
            Some(tool) if !has_result(&request) => replies::tool_call(model, tool),
            _ => replies::stream(api, model, &script::answer_to(question), asked),
        };
        timeline.add(Happening::Answered {
            status,
            events: Some(events.len()),
        });
        stream(events, Arc::clone(timeline))
    } else {
        timeline.add(Happening::Answered {
            status,
            events: None,
        });
        blocking(api, status, &request)
    };
    Ok(reply)
}

fn blocking(api: Api, status: StatusCode, request: &Value) -> Response<Script> {
    let vendor = api.vendor();
    let body = match status {
        StatusCode::OK => {
            let model = request["model"].as_str().unwrap_or_default();
            replies::whole(api, model, &script::answer_to(question(request)))
        }
        StatusCode::TOO_MANY_REQUESTS => replies::error(
            vendor,
            "rate_limit_error",
            "This key has used up its rate limit.",
        ),
        StatusCode::UNAUTHORIZED => {
            replies::error(vendor, "authentication_error", "This key was revoked.")
        }
        _ => replies::error(vendor, "invalid_request_error", "This cannot be asked."),
    };
    let mut reply = plain(status, body.to_string());
    if status == StatusCode::TOO_MANY_REQUESTS {
        reply.headers_mut().insert(
            header::RETRY_AFTER,
            HeaderValue::from_static(script::RETRY_AFTER),
        );
    }
    reply
}

/// The key, in the header of either vendor.
fn credential(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

/// The last thing the user said, in any of the three APIs.
fn question(request: &Value) -> &str {
    if let Some(input) = request["input"].as_str() {
        return input;
    }
    let messages = request["messages"].as_array();
    let texts = messages.into_iter().flatten().rev();
    let mut texts = texts.filter_map(|message| message["content"].as_str());
    texts.next().unwrap_or_default()
}

/// Whether a tool has been called and has answered.
fn has_result(request: &Value) -> bool {
    let messages = request["messages"].as_array();
    let last = messages.and_then(|messages| messages.last());
    last.is_some_and(|message| message["content"][0]["type"] == "tool_result")
}

fn plain(status: StatusCode, body: String) -> Response<Script> {
    let mut reply = Response::new(Script::whole(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    reply
}

fn stream(events: Vec<Bytes>, timeline: Arc<Timeline>) -> Response<Script> {
    let mut reply = Response::new(Script::paced(events, timeline));
    let headers = reply.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

/// A body that says one piece after the other, with a pause between two.
struct Script {
    pieces: VecDeque<Bytes>,
    pause: Pin<Box<Sleep>>,
    /// Told when the last piece is sent.
    timeline: Option<Arc<Timeline>>,
}

impl Script {
    fn whole(text: String) -> Self {
        Self {
            pieces: VecDeque::from([text.into()]),
            pause: Box::pin(sleep(Duration::ZERO)),
            timeline: None,
        }
    }

    fn paced(events: Vec<Bytes>, timeline: Arc<Timeline>) -> Self {
        Self {
            pieces: events.into(),
            pause: Box::pin(sleep(PACE)),
            timeline: Some(timeline),
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.timeline.is_some() && !self.pieces.is_empty() {
            std::task::ready!(self.pause.as_mut().poll(cx));
            self.pause = Box::pin(sleep_until(Instant::now() + PACE));
        }
        let piece = self.pieces.pop_front();
        if self.pieces.is_empty()
            && piece.is_some()
            && let Some(timeline) = &self.timeline
        {
            timeline.add(Happening::LastEventSent);
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}
