//! TLS to upstream: a certificate of our own authority, one of nobody's, and the way through a proxy.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use aibridge_core::{
    Secret, Target,
    api::Api,
    proxy::{Exceptions, Proxies, Proxy},
};
use aibridge_io::Roots;
use aibridge_testkit::{
    Fixture, Script,
    setup::{self, KEYS},
    sockets::{Client, Server},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{io::copy_bidirectional, net, runtime::Runtime};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use crate::{Bridge, Gateway};

/// An authority and an upstream behind TLS with a certificate of its.
struct Authority {
    pem: String,
    target: Target,
    _runtime: Runtime,
}

impl Authority {
    /// In front of a scripted upstream, as `name`.
    fn in_front_of(server: &Server, name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();

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
            pem: issuer.pem(),
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
