//! The outbound proxy, by the variables that curl and the providers' SDKs read too.

use std::env::VarError;

use aibridge_core::{
    Secret,
    proxy::{Exceptions, Proxies, Proxy},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;

use super::{Error, Sources, address};

/// `HTTPS_PROXY` or `https_proxy`, less what `NO_PROXY` or `no_proxy` names.
///
/// # Errors
/// A variable that makes no sense: connections would silently go another way than was asked for.
pub(super) fn read(sources: &Sources) -> Result<Proxies, Error> {
    let Some((variable, url)) = first(sources, ["HTTPS_PROXY", "https_proxy"])? else {
        return Ok(Proxies::default());
    };
    let proxy = proxy(&url)
        .map_err(|what| Error::new("environment", format_args!("{variable}: {what}")))?;
    let except = first(sources, ["NO_PROXY", "no_proxy"])?.unwrap_or_default();
    Ok(Proxies::new(proxy, Exceptions::new(&except.1)))
}

/// The first variable that is set and not blank.
fn first(
    sources: &Sources,
    variables: [&'static str; 2],
) -> Result<Option<(&'static str, String)>, Error> {
    for variable in variables {
        match (sources.env)(variable) {
            Ok(value) if value.trim().is_empty() => {}
            Ok(value) => return Ok(Some((variable, value.trim().to_owned()))),
            Err(VarError::NotPresent) => {}
            Err(VarError::NotUnicode(_)) => {
                let what = format_args!("{variable}: is not UTF-8 text; set it again");
                return Err(Error::new("environment", what));
            }
        }
    }
    Ok(None)
}

/// `http://user:password@host:port`, of which only the host must be there. Complaints do not repeat
/// it.
fn proxy(url: &str) -> Result<Proxy, String> {
    let rest = match url.split_once("://") {
        None => url,
        Some(("http", rest)) => rest,
        Some((scheme, _)) => {
            return Err(format!(
                "a proxy reached by {scheme}:// is not supported; use one reached by http://"
            ));
        }
    };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let (target, _) = address::base_url(&format!("http://{rest}"), None)
        .map_err(|_| "is not a proxy's address; write it as \"http://host:port\"".to_owned())?;
    let authorization = user.map(|user| {
        let user: Vec<u8> = percent_decode_str(user).collect();
        Secret::new(format!("Basic {}", BASE64_STANDARD.encode(user)))
    });
    Ok(Proxy {
        target,
        authorization,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use aibridge_core::Target;

    use super::*;

    fn sources(variables: &'static [(&'static str, &'static str)]) -> Sources {
        let find = move |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found
                .map(|(_, value)| (*value).to_owned())
                .ok_or(VarError::NotPresent)
        };
        Sources {
            env: Box::new(find),
            folder: PathBuf::new(),
        }
    }

    fn upstream(host: &str) -> Target {
        Target {
            host: host.into(),
            port: 443,
            tls: true,
        }
    }

    #[test]
    fn the_usual_variables_name_it() {
        let none = read(&sources(&[("NO_PROXY", "*"), ("HTTPS_PROXY", " ")])).unwrap();
        assert!(none.between(&upstream("a.example")).is_none());

        for url in ["http://proxy:3128", "proxy:3128", "http://proxy:3128/"] {
            let proxy = proxy(url).unwrap();
            assert_eq!(
                (proxy.target.to_string(), proxy.authorization),
                ("http://proxy:3128".to_owned(), None)
            );
        }

        let some = read(&sources(&[
            ("https_proxy", "http://us%40er:p@ss@proxy"),
            ("no_proxy", "b.example"),
        ]))
        .unwrap();
        assert!(some.between(&upstream("b.example")).is_none());
        let proxy = some.between(&upstream("a.example")).unwrap();
        assert_eq!((&*proxy.target.host, proxy.target.port), ("proxy", 80));
        let authorization = proxy.authorization.as_ref().unwrap();
        assert_eq!(authorization.expose(), "Basic dXNAZXI6cEBzcw==");
    }

    #[test]
    fn one_that_makes_no_sense_is_an_error_that_does_not_repeat_it() {
        for (url, fix) in [
            ("socks5://proxy", "use one reached by http://"),
            ("http://u:secret@ho st", "write it as"),
            ("http://", "write it as"),
        ] {
            let error = proxy(url).unwrap_err();
            assert!(error.contains(fix) && !error.contains("secret"), "{error}");
        }
        let error = read(&sources(&[("HTTPS_PROXY", "ftp://x")])).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("environment") && error.contains("HTTPS_PROXY"),
            "{error}"
        );
    }
}
