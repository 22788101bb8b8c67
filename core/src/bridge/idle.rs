//! Idle upstream connections: which there are, which is used next, which has had its time. The
//! sockets are the adapter's.

use std::collections::{BTreeMap, VecDeque};

use crate::{id::ConnId, target::Target, time::Instant};

/// Idle connections kept per origin.
const PER_TARGET: usize = 64;
/// Idle connections kept in all.
const IN_ALL: usize = 512;

/// The idle connections, by origin, oldest first.
#[derive(Debug, Default)]
pub(super) struct Idle {
    by_target: BTreeMap<Target, VecDeque<Parked>>,
    count: usize,
    /// Taken off and to be closed by the adapter.
    pub(super) close: VecDeque<ConnId>,
}

#[derive(Clone, Copy, Debug)]
struct Parked {
    conn: ConnId,
    expires: Instant,
}

impl Idle {
    /// Takes the connection that was parked last: it is the likeliest to be alive.
    pub(super) fn take(&mut self, now: Instant, target: &Target) -> Option<ConnId> {
        self.expire(now);
        let parked = self.by_target.get_mut(target)?;
        let taken = parked.pop_back()?;
        if parked.is_empty() {
            self.by_target.remove(target);
        }
        self.count -= 1;
        Some(taken.conn)
    }

    /// Parks a connection until `expires`; beyond the bounds the oldest make room.
    pub(super) fn park(&mut self, conn: ConnId, target: Target, expires: Instant) {
        if self.count >= IN_ALL {
            self.evict_oldest();
        }
        let parked = self.by_target.entry(target).or_default();
        if parked.len() >= PER_TARGET {
            self.close
                .extend(parked.pop_front().map(|oldest| oldest.conn));
            self.count -= 1;
        }
        parked.push_back(Parked { conn, expires });
        self.count += 1;
    }

    /// Takes off all whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        self.by_target.retain(|_, parked| {
            while parked.front().is_some_and(|oldest| oldest.expires <= now) {
                self.close
                    .extend(parked.pop_front().map(|oldest| oldest.conn));
                self.count -= 1;
            }
            !parked.is_empty()
        });
    }

    /// Takes off all there are.
    pub(super) fn clear(&mut self) {
        for parked in std::mem::take(&mut self.by_target).into_values() {
            self.close
                .extend(parked.into_iter().map(|parked| parked.conn));
        }
        self.count = 0;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_target
            .values()
            .filter_map(|parked| Some(parked.front()?.expires))
            .min()
    }

    fn evict_oldest(&mut self) {
        let oldest = self
            .by_target
            .iter()
            .filter_map(|(target, parked)| Some((parked.front()?.expires, target)))
            .min()
            .map(|(_, target)| target.clone());
        let Some(target) = oldest else {
            return;
        };
        if let Some(parked) = self.by_target.get_mut(&target) {
            self.close
                .extend(parked.pop_front().map(|oldest| oldest.conn));
            self.count -= 1;
            if parked.is_empty() {
                self.by_target.remove(&target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str) -> Target {
        Target {
            host: host.into(),
            port: 80,
            tls: false,
        }
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn the_last_parked_is_taken_first_and_only_for_its_origin() {
        let mut idle = Idle::default();
        idle.park(ConnId::new(1), target("a"), at(9));
        idle.park(ConnId::new(2), target("a"), at(9));
        idle.park(ConnId::new(3), target("b"), at(9));
        assert_eq!(idle.take(at(1), &target("a")), Some(ConnId::new(2)));
        assert_eq!(idle.take(at(1), &target("a")), Some(ConnId::new(1)));
        assert_eq!(idle.take(at(1), &target("a")), None);
        assert_eq!((idle.count, idle.deadline()), (1, Some(at(9))));
    }

    #[test]
    fn connections_expire() {
        let mut idle = Idle::default();
        idle.park(ConnId::new(1), target("a"), at(5));
        idle.park(ConnId::new(2), target("a"), at(7));
        idle.expire(at(5));
        assert_eq!(idle.close, [ConnId::new(1)]);
        assert_eq!(idle.take(at(7), &target("a")), None);
        assert_eq!(idle.close, [ConnId::new(1), ConnId::new(2)]);
        assert_eq!((idle.count, idle.deadline()), (0, None));
    }

    #[test]
    fn the_oldest_make_room_beyond_the_bounds() {
        let mut idle = Idle::default();
        for n in 1..=PER_TARGET as u64 + 1 {
            idle.park(ConnId::new(n), target("a"), at(n));
        }
        assert_eq!(
            (idle.count, idle.close.as_slices().0),
            (PER_TARGET, &[ConnId::new(1)][..])
        );

        let mut idle = Idle::default();
        for n in 1..=IN_ALL as u64 + 2 {
            idle.park(ConnId::new(n), target(&n.to_string()), at(n));
        }
        assert_eq!((idle.count, idle.close.len()), (IN_ALL, 2));
    }
}
