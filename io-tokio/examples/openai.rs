//! A bridge to OpenAI on tokio, in one file.
//!
//! ```console
//! $ OPENAI_API_KEYS=sk-one,sk-two cargo run -p aibridge-tokio --example openai -- 127.0.0.1:8787
//! $ curl http://127.0.0.1:8787/openai/v1/responses -d '{"model":"MODEL","input":"Hello"}'
//! ```
//!
//! It says what becomes of each request and of each key. Ctrl-C ends it, once what runs is done.

use std::{env, error::Error, sync::Arc, time::Duration};

use aibridge_core::{
    Target,
    api::Vendor,
    config::{Config, Provider},
    record::Record,
};
use aibridge_tokio::{Server, Sink};
use tokio::{net::TcpListener, signal};

/// Says how requests ended, and which keys changed state.
struct Stdout;

impl Sink for Stdout {
    fn keep(&self, record: Record) {
        match record {
            Record::Ended(id, ended) => println!("{id} {}", ended.outcome.as_str()),
            Record::KeyChanged { transition, .. } => {
                println!("{} is {}", transition.hint, transition.to.as_str());
            }
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keys = env::var("OPENAI_API_KEYS")
        .map_err(|_| "set OPENAI_API_KEYS to one key or more, with commas between them")?;
    let listen = env::args().nth(1);
    let listener = TcpListener::bind(listen.as_deref().unwrap_or("127.0.0.1:8787")).await?;

    let target = Target {
        host: "api.openai.com".into(),
        port: 443,
        tls: true,
    };
    let provider =
        Provider::new("openai", Vendor::OpenAi, target, "/v1").with_keys(keys.split(','));
    let config = Config {
        providers: vec![Arc::new(provider)],
        ..Config::default()
    };
    let server = Server::builder(config).sink(Arc::new(Stdout)).build()?;

    println!("http://{}/openai/v1", listener.local_addr()?);
    tokio::select! {
        () = server.serve(listener) => {}
        ended = signal::ctrl_c() => ended?,
    }
    server.drain(Duration::from_secs(30)).await;
    Ok(())
}
