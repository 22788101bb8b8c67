//! TLS on the clients' listener and on that of administrators.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::bridge::{Bridge, blocking, folder, provider, question};

/// Puts a new certificate for `localhost` and its key into the folder.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    CertificateDer::from_pem_slice(cert.pem().as_bytes()).unwrap()
}

/// Asks, trusting this certificate alone.
fn ask(address: &str, trusted: &CertificateDer<'static>, request: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(request.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

#[test]
fn both_listeners_speak_tls_and_certificates_can_be_renewed() {
    let folder = folder("tls");
    let first = certify(&folder);
    let provider = provider(Duration::ZERO, |_, _| vec![blocking("msg_1")]);
    let tls = "{ cert = \"cert.pem\", key = \"key.pem\" }";
    let text = format!(
        "[server]\ntls = {tls}\nadmin_tls = {tls}\n[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{provider}\"\nkeys = [\"k\"]\n"
    );
    let file = folder.join("aibridge.toml");
    fs::write(&file, text).unwrap();
    let bridge = Bridge::start_behind_tls(&file);
    for line in [
        format!("  clients  https://{}\n", bridge.clients),
        format!("  admin    https://{}\n", bridge.admin),
        format!("ANTHROPIC_BASE_URL=https://{}/anthropic ", bridge.clients),
    ] {
        bridge.until(&line, |bridge| bridge.printed().contains(&line));
    }

    let body = question("Safe?", false);
    let question = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let keys = "GET /keys HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let reload = "POST /reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let reply = ask(&bridge.clients, &first, &question).unwrap();
    assert!(
        reply.starts_with("HTTP/1.1 200") && reply.contains("msg_1"),
        "{reply}"
    );
    assert!(ask(&bridge.admin, &first, keys).unwrap().contains("valid"));

    let second = certify(&folder);
    assert!(ask(&bridge.clients, &second, &question).is_err());
    let reply = ask(&bridge.admin, &first, reload).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    let reply = ask(&bridge.clients, &second, &question).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(ask(&bridge.admin, &second, keys).unwrap().contains("valid"));
    assert!(ask(&bridge.clients, &first, &question).is_err());

    // A key of another certificate is not taken, and nothing changes.
    let third = folder.join("cert.pem");
    let kept = fs::read(&third).unwrap();
    certify(&folder);
    fs::write(&third, kept).unwrap();
    let reply = ask(&bridge.admin, &second, reload).unwrap();
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    assert!(reply.contains("is not the key of"), "{reply}");
    assert!(ask(&bridge.clients, &second, &question).is_ok());

    // Who comes without TLS gets no answer, and harms nobody.
    let mut plain = TcpStream::connect(&bridge.clients).unwrap();
    plain.write_all(question.as_bytes()).unwrap();
    let mut reply = Vec::new();
    let _ = plain.read_to_end(&mut reply);
    assert!(!reply.starts_with(b"HTTP"), "{reply:?}");
    assert!(ask(&bridge.clients, &second, &question).is_ok());
    bridge.stop();
}
