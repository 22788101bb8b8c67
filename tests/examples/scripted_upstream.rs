//! Serves a scripted provider on a socket, for clients that are not written in Rust.
//!
//! ```console
//! $ cargo run -p aibridge-testkit --example scripted_upstream -- --builtin sdk --listen 127.0.0.1:0
//! listening on 127.0.0.1:40231
//! $ cargo run -p aibridge-testkit --example scripted_upstream -- fixtures/chat/simple.txtar
//! ```
//!
//! `--builtin sdk` is [`aibridge_testkit::sdk`]: the key decides between a reply, 429 and 401, the
//! path and `stream` choose the reply, and a prompt such as `call TOOL {"a":1}` has that tool
//! called. A FILE is a fixture, whose reply every request gets in the form it asks for.

use std::{error::Error, io::Write, process::ExitCode};

use aibridge_core::api::Api;
use aibridge_testkit::{Fixture, Script, sdk, sockets::Server};
use serde_json::Value;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripted_upstream: {error}");
            eprintln!("usage: scripted_upstream (FILE | --builtin sdk) [--listen ADDR]");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (mut script, mut listen) = (None, "127.0.0.1:0".to_owned());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--builtin" => match arguments.next().as_deref() {
                Some("sdk") => script = Some(sdk()),
                other => return Err(format!("no builtin {}", other.unwrap_or("named")).into()),
            },
            "--listen" => listen = arguments.next().ok_or("--listen needs an address")?,
            file => script = Some(fixture(file)?),
        }
    }
    let script = script.ok_or("what shall be served?")?;
    let server = Server::listen(script.upstream(), &listen)?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", server.addr())?;
    out.flush()?;
    server.wait();
    script.abandon();
    Ok(())
}

/// Every request gets the reply of this fixture.
fn fixture(file: &str) -> Result<Script, Box<dyn Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let api = match () {
        () if file.contains("messages") => Api::Messages,
        () if file.contains("chat") => Api::ChatCompletions,
        () => Api::Responses,
    };
    let fixture = Fixture::parse(file, api, &text);
    Ok(Script::choosing(move |call| {
        let request = serde_json::from_slice(&call.body).unwrap_or(Value::Null);
        let streaming = request["stream"] == true;
        match fixture.forms().as_slice() {
            [only] => fixture.reply(*only),
            _ => fixture.reply(streaming),
        }
    }))
}
