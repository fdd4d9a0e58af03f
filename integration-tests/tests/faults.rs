//! A short schedule of faults on each path: what is acknowledged arrives, whatever is killed. The
//! same with more of everything is `examples/faults.rs`.

mod faults {
    mod ledger;
    mod paths;
}
