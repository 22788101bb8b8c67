//! TLS to upstream: a certificate of our own authority, one of nobody's, and the way through a
//! proxy.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use aibridge_core::{
    Secret, Target,
    api::Api,
    proxy::{Exceptions, Proxies, Proxy},
};
use aibridge_io::{Identity, Roots};
use aibridge_testkit::{
    Answer, Fixture, Script,
    setup::{self, KEYS},
    sockets::{Client, Server},
};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{io::copy_bidirectional, net, runtime::Runtime};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
        crypto::ring,
        pki_types::{
            CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject,
        },
    },
};

use crate::{Bridge, Gateway, Runtime as OfAdapter, gateway::Adapter};

/// The PEM text of a new authority, and a certificate of its with its key.
fn issue(name: &str) -> (String, Certificate, KeyPair) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (issuer.pem(), certificate, key)
}

/// An authority and an upstream behind TLS with a certificate of its.
struct Authority {
    pem: String,
    target: Target,
    _runtime: Runtime,
}

impl Authority {
    /// In front of a scripted upstream, as `name`.
    fn in_front_of(server: &Server, name: &str) -> Self {
        let (issuer, certificate, key) = issue(name);
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = server.addr();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut plain = net::TcpStream::connect(behind).await?;
                    copy_bidirectional(&mut stream, &mut plain).await
                });
            }
        });
        Self {
            pem: issuer,
            target: Target {
                host: "localhost".into(),
                port,
                tls: true,
            },
            _runtime: runtime,
        }
    }

    fn trusted(&self) -> Roots {
        Roots::none().with_pem(self.pem.as_bytes()).unwrap()
    }
}

#[test]
fn an_upstream_with_a_certificate_of_a_trusted_authority_is_reached() {
    for api in aibridge_testkit::APIS {
        let fixture = Fixture::simple(api);
        let script = Script::in_order([fixture.reply(true), fixture.reply(false)]);
        let server = Server::start(&script).unwrap();
        let authority = Authority::in_front_of(&server, "localhost");
        let config = setup::config_at(&authority.target, &KEYS[..1]);
        let gateway = Gateway::build(Bridge::builder(config).roots(authority.trusted()));
        let mut client = Client::connect(gateway.addr()).unwrap();
        for streaming in [true, false] {
            let answer = client.ask(&fixture.ask(streaming)).unwrap();
            assert_eq!(answer.body, fixture.relayed(streaming));
        }
        let connections: Vec<_> = script.verify().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [1, 1], "TLS connections are used again too");
    }
}

#[test]
fn an_untrusted_certificate_is_a_502_that_says_so() {
    let script = Script::in_order([]);
    let server = Server::start(&script).unwrap();
    for (name, trust) in [("localhost", false), ("another.example", true)] {
        let authority = Authority::in_front_of(&server, name);
        let roots = if trust {
            authority.trusted()
        } else {
            Roots::none()
        };
        let config = setup::config_at(&authority.target, &KEYS[..1]);
        let gateway = Gateway::build(Bridge::builder(config).roots(roots));
        let mut client = Client::connect(gateway.addr()).unwrap();
        let fixture = Fixture::simple(Api::Messages);
        let answer = client.ask(&fixture.ask(true)).unwrap();
        assert_eq!(
            (answer.status, answer.error_message().as_str()),
            (502, "upstream connection failed: certificate not trusted"),
            "{name}"
        );
        assert_eq!(
            gateway.key_states("anthropic"),
            ["valid"],
            "not the key's fault"
        );
    }
    script.verify();
}

/// A connection to who is `localhost` and has a certificate of this authority's.
fn connect(addr: SocketAddr, authority: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, TcpStream::connect(addr).unwrap())
}

#[test]
fn clients_may_come_with_tls_and_one_that_does_not_is_in_nobodys_way() {
    let fixture = Fixture::simple(Api::Messages);
    let script = Script::in_order([fixture.reply(true), fixture.reply(true)]);
    let server = Server::start(&script).unwrap();
    let config = setup::config_at(&server.target(), &KEYS[..1]);
    let bridge = Arc::new(Bridge::builder(config).build().unwrap());
    let (authority, certificate, key) = issue("localhost");
    let certificate = certificate.pem();
    let identity = Identity::from_pem(certificate.as_bytes(), key.serialize_pem().as_bytes());
    let identity = identity.unwrap();
    let host = OfAdapter::host();
    let (listener, addr) = OfAdapter::listen(&host);
    let serving = Arc::clone(&bridge);
    OfAdapter::run(&host, async move {
        serving.serve_tls(listener, &identity).await;
    });

    let mut plain = TcpStream::connect(addr).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).unwrap();
    assert!(!said.starts_with(b"HTTP"), "an alert, perhaps");

    let mut silent = connect(addr, &authority);
    let ask = fixture.ask(true).header("connection", "close");
    for _ in 0..2 {
        let mut client = connect(addr, &authority);
        client.write_all(&ask.bytes()).unwrap();
        let mut said = Vec::new();
        // An end without a farewell would be an error.
        client.read_to_end(&mut said).unwrap();
        let (answer, read) = Answer::read(&said, true).unwrap();
        assert_eq!((answer.body, read), (fixture.relayed(true), said.len()));
    }
    OfAdapter::block_on(&host, bridge.drain(Duration::ZERO));
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0);
    script.verify();
}

#[test]
fn an_upstream_that_does_not_speak_tls_is_a_502_that_says_so() {
    let script = Script::in_order([]);
    let server = Server::start(&script).unwrap();
    let target = Target {
        tls: true,
        ..server.target()
    };
    let gateway =
        Gateway::build(Bridge::builder(setup::config_at(&target, &KEYS[..1])).roots(Roots::none()));
    let mut client = Client::connect(gateway.addr()).unwrap();
    let answer = client
        .ask(&Fixture::simple(Api::Responses).ask(false))
        .unwrap();
    assert_eq!(answer.status, 502);
    script.abandon(); // it saw something that was no request
}

/// A proxy that knows one user, and passes bytes on. Says what it was asked for.
fn proxy() -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let request = String::from_utf8(request).unwrap();
        if !request.contains("proxy-authorization: Basic dTpw\r\n") {
            client.write_all(b"HTTP/1.1 407 Who\r\n\r\n").unwrap();
            return request;
        }
        let to = request.split(' ').nth(1).unwrap();
        let upstream = TcpStream::connect(to).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut from, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut back));
        thread::spawn(move || std::io::copy(&mut client, &mut (&upstream)));
        request
    });
    (addr, serving)
}

#[test]
fn the_way_leads_through_a_proxy_where_one_is_named() {
    let fixture = Fixture::simple(Api::Messages);
    for (authorization, status) in [("Basic dTpw", 200), ("Basic bm9ib2R5", 502)] {
        let replies = (status == 200).then(|| fixture.reply(false));
        let script = Script::in_order(replies);
        let server = Server::start(&script).unwrap();
        let authority = Authority::in_front_of(&server, "localhost");
        let (addr, serving) = proxy();
        let through = Proxy {
            target: Target {
                host: addr.ip().to_string().into(),
                port: addr.port(),
                tls: false,
            },
            authorization: Some(Secret::new(authorization)),
        };
        let config = setup::config_at(&authority.target, &KEYS[..1]);
        let bridge = Bridge::builder(config)
            .roots(authority.trusted())
            .proxies(Proxies::new(through, Exceptions::default()));
        let gateway = Gateway::build(bridge);
        let mut client = Client::connect(gateway.addr()).unwrap();
        let answer = client.ask(&fixture.ask(false)).unwrap();
        assert_eq!(answer.status, status);
        if status == 502 {
            assert_eq!(
                answer.error_message(),
                "upstream connection failed: proxy failed"
            );
        }
        let request = serving.join().unwrap();
        let line = format!("CONNECT localhost:{} HTTP/1.1\r\n", authority.target.port);
        assert!(request.starts_with(&line), "{request}");
        assert!(!request.contains(KEYS[0]), "the proxy learns nothing");
        script.verify();
    }
}
