//! What the fuzz targets do with their input. Each is a plain function, so that ordinary tests run
//! it too, over the inputs in `corpus`: those of `log` in log-lite's tests, those of `wire` in the
//! wire's.

mod input;
#[path = "../../tests/it/nor.rs"]
mod nor;
#[path = "../../tests/it/rng.rs"]
mod rng;
#[expect(dead_code, reason = "the tests that it comes from use more of it")]
#[path = "../../tests/it/sim.rs"]
mod sim;

pub mod log;
pub mod wire;

use rng::Rng;
