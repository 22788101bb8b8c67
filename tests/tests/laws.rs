//! x
use aibridge_core::keypool::Failover;
use aibridge_testkit::laws::{Checks, check_policy};
#[test]
fn failover_holds() {
    let began = std::time::Instant::now();
    match check_policy(
        Failover::default(),
        &Checks::default().cases(2000).from_env(),
    ) {
        Ok(report) => println!("{report:?} {:?}", began.elapsed()),
        Err(found) => panic!("{found}"),
    }
}
