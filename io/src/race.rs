//! Connecting to a name that has several addresses, not all of which need answer (RFC 8305).

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
    vec,
};

/// How long an address has to itself before the next is tried as well: the "Connection Attempt
/// Delay" that RFC 8305 §5 recommends.
pub(crate) const DELAY: Duration = Duration::from_millis(250);

/// Connects to the address that answers first. The next one is tried when one has failed, or when a
/// `pause` is over and none has answered: an address that swallows what is sent to it costs a
/// pause, and not all the time that there is.
///
/// # Errors
/// All have failed: how the last did.
pub(crate) async fn first<T, F, S>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
    pause: impl Fn() -> S,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
    S: Future<Output = ()>,
{
    let mut untried = interleaved(addresses);
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    let mut pausing: Option<Pin<Box<S>>> = None;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let step = |context: &mut Context<'_>| loop {
        let mut index = 0;
        while let Some(attempt) = running.get_mut(index) {
            match attempt.as_mut().poll(context) {
                Poll::Pending => index += 1,
                Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                Poll::Ready(Err(error)) => {
                    last = error;
                    drop(running.remove(index));
                    pausing = None;
                }
            }
        }
        if let Some(pause) = &mut pausing
            && pause.as_mut().poll(context).is_pending()
        {
            return Poll::Pending;
        }
        pausing = None;
        match untried.next() {
            Some(address) => {
                running.push(Box::pin(connect(address)));
                pausing = (untried.len() > 0).then(|| Box::pin(pause()));
            }
            None if running.is_empty() => {
                let last = std::mem::replace(&mut last, io::ErrorKind::NotFound.into());
                return Poll::Ready(Err(last));
            }
            None => return Poll::Pending,
        }
    };
    poll_fn(step).await
}

/// The addresses in their order, but families by turns (RFC 8305 §4): it is mostly a whole family
/// that does not work.
fn interleaved(addresses: Vec<SocketAddr>) -> vec::IntoIter<SocketAddr> {
    let preferred = addresses.first().map(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| Some(address.is_ipv6()) == preferred);
    let mut second = second.into_iter();
    let mut all = Vec::with_capacity(first.len() + second.len());
    for address in first {
        all.push(address);
        all.extend(second.next());
    }
    all.extend(second);
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        future::{pending, ready},
        task::Waker,
    };

    use super::*;

    const REFUSED: io::ErrorKind = io::ErrorKind::ConnectionRefused;

    fn v4(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn v6(port: u16) -> SocketAddr {
        ([0, 0, 0, 0, 0, 0, 0, 1], port).into()
    }

    /// An attempt: what comes of a port is what its number says, and 0 is never heard of again.
    async fn attempt(address: SocketAddr) -> io::Result<u16> {
        match address.port() {
            0 => pending().await,
            port if port < 10 => Err(REFUSED.into()),
            port => Ok(port),
        }
    }

    /// Which ports were tried after each pause, and what came of it.
    fn tried(
        addresses: &[SocketAddr],
        pauses: usize,
    ) -> (Vec<u16>, Option<Result<u16, io::ErrorKind>>) {
        let (order, over) = (RefCell::new(Vec::new()), Cell::new(0));
        let connect = |address: SocketAddr| {
            order.borrow_mut().push(address.port());
            attempt(address)
        };
        let begun = Cell::new(0);
        let pause = || {
            begun.set(begun.get() + 1);
            let (number, over) = (begun.get(), &over);
            poll_fn(move |_| {
                if number <= over.get() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        };
        let mut race = Box::pin(first(addresses.to_vec(), connect, pause));
        let mut context = Context::from_waker(Waker::noop());
        let mut came = race.as_mut().poll(&mut context);
        while over.get() < pauses && came.is_pending() {
            over.set(over.get() + 1);
            came = race.as_mut().poll(&mut context);
        }
        drop(race);
        let came = match came {
            Poll::Pending => None,
            Poll::Ready(came) => Some(came.map_err(|error| error.kind())),
        };
        (order.into_inner(), came)
    }

    #[test]
    fn an_address_that_does_not_answer_costs_one_pause() {
        assert_eq!(tried(&[v6(0), v4(10)], 0), (vec![0], None));
        assert_eq!(tried(&[v6(0), v4(10)], 1), (vec![0, 10], Some(Ok(10))));
        assert_eq!(tried(&[v6(0), v4(0), v4(10)], 1), (vec![0, 0], None));
        assert_eq!(
            tried(&[v6(0), v4(0), v4(10)], 2),
            (vec![0, 0, 10], Some(Ok(10)))
        );
    }

    #[test]
    fn an_address_that_refuses_costs_nothing() {
        assert_eq!(
            tried(&[v4(1), v4(2), v4(11)], 0),
            (vec![1, 2, 11], Some(Ok(11)))
        );
        // Also while another is waited for.
        assert_eq!(
            tried(&[v6(0), v4(1), v4(12)], 1),
            (vec![0, 1, 12], Some(Ok(12)))
        );
    }

    #[test]
    fn it_fails_when_all_have_failed_and_not_before() {
        assert_eq!(tried(&[v4(1), v4(2)], 0), (vec![1, 2], Some(Err(REFUSED))));
        assert_eq!(tried(&[v4(0), v4(2)], 9), (vec![0, 2], None));
    }

    #[test]
    fn an_attempt_that_was_slow_still_counts() {
        let answers = Cell::new(false);
        let connect = |address: SocketAddr| {
            let answers = &answers;
            let is_first = address.port() == 10;
            poll_fn(move |_| {
                if is_first && answers.get() {
                    Poll::Ready(Ok(address.port()))
                } else {
                    Poll::Pending
                }
            })
        };
        let mut race = Box::pin(first(vec![v4(10), v4(11)], connect, || ready(())));
        let mut context = Context::from_waker(Waker::noop());
        assert!(race.as_mut().poll(&mut context).is_pending());
        answers.set(true);
        assert!(matches!(
            race.as_mut().poll(&mut context),
            Poll::Ready(Ok(10))
        ));
    }

    #[test]
    fn families_take_turns() {
        let order: Vec<_> = interleaved(vec![v6(1), v6(2), v6(3), v4(4)]).collect();
        assert_eq!(order, [v6(1), v4(4), v6(2), v6(3)]);
        let order: Vec<_> = interleaved(vec![v4(1), v6(2), v6(3), v4(4)]).collect();
        assert_eq!(order, [v4(1), v6(2), v4(4), v6(3)]);
    }
}
