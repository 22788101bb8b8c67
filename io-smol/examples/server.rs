//! A bridge to Anthropic on smol, in one file.
//!
//! ```console
//! $ ANTHROPIC_API_KEYS=sk-ant-one,sk-ant-two cargo run -p aibridge-smol --example server -- 127.0.0.1:8787
//! $ ANTHROPIC_BASE_URL=http://127.0.0.1:8787/anthropic ANTHROPIC_API_KEY=unused claude
//! ```
//!
//! It fails over from key to key and says what became of each request. It ends when its input does
//! (Ctrl-D), and lets what runs finish.

use std::{
    env,
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use aibridge_core::{
    Target,
    api::Vendor,
    config::{Config, Provider},
    record::Record,
};
use aibridge_smol::{Server, Sink};
use smol::Async;

/// Says how requests ended.
struct Stdout;

impl Sink for Stdout {
    fn keep(&self, record: Record) {
        if let Record::Ended(id, ended) = record {
            let (outcome, key) = (ended.outcome.as_str(), &ended.credential_hint);
            println!("{id} {outcome}, {} attempts, key {key}", ended.attempts);
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let keys = env::var("ANTHROPIC_API_KEYS")
        .map_err(|_| "set ANTHROPIC_API_KEYS to one key or more, with commas between them")?;
    let listen = env::args().nth(1);
    let listen: SocketAddr = listen.as_deref().unwrap_or("127.0.0.1:8787").parse()?;

    let target = Target {
        host: "api.anthropic.com".into(),
        port: 443,
        tls: true,
    };
    let provider =
        Provider::new("anthropic", Vendor::Anthropic, target, "").with_keys(keys.split(','));
    let config = Config {
        providers: vec![Arc::new(provider)],
        ..Config::default()
    };
    let server = Server::builder(config).sink(Arc::new(Stdout)).build()?;

    smol::block_on(async {
        let listener = Async::<TcpListener>::bind(listen)?;
        println!("http://{}/anthropic", listener.get_ref().local_addr()?);
        let input_ends = smol::unblock(|| io::copy(&mut io::stdin().lock(), &mut io::sink()));
        let serving = async {
            server.serve(listener).await;
            Ok(0)
        };
        smol::future::or(serving, input_ends).await?;
        server.drain(Duration::from_secs(30)).await;
        Ok(())
    })
}
