//! Embeds [`Interception`] in a hyper server, with hyper's own client towards upstream.
//!
//! The HTTP stack is theirs; failover, routing, header hygiene, relaying and records are the
//! core's. Run `cargo run -p aibridge-core --example hyper_embed -- http://127.0.0.1:9000
//! sk-key-one,sk-key-two`, then
//! `curl 127.0.0.1:8787/anthropic/v1/messages -d '{"model":"m","messages":[]}'`.
#![expect(clippy::disallowed_types, reason = "an adapter is where the clock is")]

use std::{
    error::Error,
    future::pending,
    io,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aibridge_core::{
    Bridge, CallId, Fault, Instant, Interception, InterceptionId, Target,
    api::Vendor,
    config::{Config, Provider},
    interception::{Action, Event},
};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited, channel::Channel};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, ResponseFuture, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpListener, sync::oneshot};

type Upstream = Client<HttpConnector, Full<Bytes>>;
type Reply = Response<Channel<Bytes, io::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(upstream), Some(keys)) = (args.next(), args.next()) else {
        return Err("usage: hyper_embed http://HOST:PORT KEY[,KEY…]".into());
    };
    let upstream: Uri = upstream.parse()?;
    let target = Target {
        host: upstream.host().ok_or("the URL has no host")?.into(),
        port: upstream.port_u16().unwrap_or(80),
        tls: false,
    };
    let provider =
        Provider::new("anthropic", Vendor::Anthropic, target, "").with_keys(keys.split(','));
    let config = Config {
        providers: vec![Arc::new(provider)],
        ..Config::default()
    };
    let bridge = Bridge::new(Arc::new(config), now().as_nanos())?;
    let bridge = Arc::new(Mutex::new(bridge));
    let client: Upstream = Client::builder(TokioExecutor::new()).build_http();

    let listener = TcpListener::bind("127.0.0.1:8787").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (bridge, client) = (Arc::clone(&bridge), client.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| serve(request, Arc::clone(&bridge), client.clone()));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Serves one request: the interception runs in a task of its own and feeds the reply's body.
async fn serve(
    request: Request<Incoming>,
    bridge: Arc<Mutex<Bridge>>,
    client: Upstream,
) -> Result<Reply, Box<dyn Error + Send + Sync>> {
    let (config, id) = {
        let mut bridge = bridge.lock().unwrap_or_else(PoisonError::into_inner);
        (
            Arc::clone(bridge.config()),
            InterceptionId::draw(&mut bridge.fork_rng()),
        )
    };
    let (parts, body) = request.into_parts();
    // Limits are ours to keep on this level. Beyond this one, the connection ends; a server that is
    // kinder answers 413.
    let limit = usize::try_from(config.limits.body).unwrap_or(usize::MAX);
    let body = Limited::new(body, limit).collect().await?.to_bytes();
    let request = Request::from_parts(parts, body);
    let interception = Interception::new(now(), &config, id, request);
    let (head, reply) = oneshot::channel();
    tokio::spawn(run(interception, bridge, client, head));
    Ok(reply.await?)
}

/// Drives an interception to its end: actions, questions, then whatever upstream does next.
async fn run(
    mut interception: Interception,
    bridge: Arc<Mutex<Bridge>>,
    client: Upstream,
    head: oneshot::Sender<Reply>,
) {
    let mut head = Some(head);
    let mut reply_body = None;
    let mut upstream = None;
    let mut calling = None;
    while !interception.is_done() {
        while let Some(action) = interception.poll_action() {
            match action {
                Action::Call(call, request) => match request.into_http() {
                    Ok(request) => calling = Some((call, client.request(request.map(Full::new)))),
                    Err(_) => interception.handle(now(), Event::UpstreamFailed(call, Fault::Local)),
                },
                Action::Abort(_) => (calling, upstream) = (None, None),
                // Without MCP servers in the configuration there are no tools.
                Action::AbortTools | Action::CallTool(..) => {}
                Action::Emit(record) => println!("{record:?}"),
                Action::ReplyHead(reply) => {
                    let (sender, body) = Channel::new(16);
                    let mut response = Response::new(body);
                    *response.status_mut() = reply.status;
                    *response.headers_mut() = reply.headers;
                    reply_body = Some(sender);
                    if let Some(head) = head.take() {
                        let _ = head.send(response);
                    }
                }
                Action::ReplyBody(bytes) => {
                    if let Some(body) = &mut reply_body
                        && body.send_data(bytes).await.is_err()
                    {
                        interception.handle(now(), Event::ClientGone);
                    }
                }
                Action::ReplyEnd => drop(reply_body.take()),
                Action::ReplyAbort => {
                    if let Some(body) = reply_body.take() {
                        body.abort(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
        if let Some(query) = interception.poll_query() {
            let mut bridge = bridge.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = bridge.answer_interception(now(), query);
            interception.handle_answer(now(), answer);
            continue;
        }
        if interception.is_done() {
            return;
        }
        let wait = interception
            .poll_timeout()
            .map_or(Duration::from_secs(3600), |at| at.since(now()));
        let event = tokio::select! {
            () = gone(&mut head) => {
                head = None;
                Some(Event::ClientGone)
            }
            event = heard(&mut calling, &mut upstream) => Some(event),
            () = tokio::time::sleep(wait) => None,
        };
        match event {
            Some(event) => interception.handle(now(), event),
            None => interception.handle_timeout(now()),
        }
    }
}

/// The client has left that still waits for a head: hyper drops what serves it then. One that has a
/// head is missed when it is sent more of the body.
async fn gone(head: &mut Option<oneshot::Sender<Reply>>) {
    match head {
        Some(head) => head.closed().await,
        None => pending().await,
    }
}

/// What comes next from upstream; nothing ever where it was not asked.
async fn heard(
    calling: &mut Option<(CallId, ResponseFuture)>,
    upstream: &mut Option<(CallId, Incoming)>,
) -> Event {
    if let Some((call, request)) = calling {
        let (call, response) = (*call, request.await);
        *calling = None;
        let Ok(response) = response else {
            return Event::UpstreamFailed(call, Fault::Refused);
        };
        let (parts, body) = response.into_parts();
        *upstream = Some((call, body));
        return Event::UpstreamHead(call, parts.status, parts.headers);
    }
    let Some((call, body)) = upstream else {
        return pending().await;
    };
    match body.frame().await {
        Some(Ok(frame)) => Event::UpstreamBody(*call, frame.into_data().unwrap_or_default()),
        Some(Err(_)) => Event::UpstreamFailed(*call, Fault::Reset),
        None => Event::UpstreamEnd(*call),
    }
}

/// The wall clock once, the monotonic clock from there on: time never goes back.
fn now() -> Instant {
    static START: LazyLock<(Instant, std::time::Instant)> = LazyLock::new(|| {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        (Instant::EPOCH + wall, std::time::Instant::now())
    });
    START.0 + START.1.elapsed()
}
