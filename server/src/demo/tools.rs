//! An MCP server with one tool, that plays its part of the script.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    script,
    timeline::{Happening, Timeline},
};

/// Serves until the runtime ends.
pub(super) fn start(listener: TcpListener, timeline: Arc<Timeline>) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
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
}

async fn answer(
    request: Request<Incoming>,
    timeline: &Timeline,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::POST {
        return Ok(reply(StatusCode::METHOD_NOT_ALLOWED, None));
    }
    let body = request.into_body().collect().await;
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": script::TOOL_SERVER, "version": "1"},
        }),
        "tools/list" => json!({"tools": [{
            "name": script::TOOL.name,
            "description": "Tells how long a bridge is.",
            "inputSchema": {"type": "object", "properties": {"bridge": {"type": "string"}}, "required": ["bridge"]},
        }]}),
        "tools/call" => {
            timeline.add(Happening::ToolRan {
                arguments: message["params"]["arguments"].to_string(),
            });
            json!({"content": [{"type": "text", "text": script::TOOL.result}]})
        }
        method if method.starts_with("notifications/") => {
            return Ok(reply(StatusCode::ACCEPTED, None));
        }
        _ => {
            let error = json!({"code": -32601, "message": "method not found"});
            let body = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
            return Ok(reply(StatusCode::OK, Some(&body)));
        }
    };
    let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    Ok(reply(StatusCode::OK, Some(&body)))
}

fn reply(status: StatusCode, body: Option<&Value>) -> Response<Full<Bytes>> {
    let text = body.map(ToString::to_string).unwrap_or_default();
    let mut reply = Response::new(Full::from(text));
    *reply.status_mut() = status;
    if body.is_some() {
        let json = header::HeaderValue::from_static("application/json");
        reply.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    reply
}
