//! Stand-ins for the clouds' token services, written from their published protocols, and `moto`, which is one that
//! others wrote.

mod amazon;
mod clock;
mod google;
mod key;
mod microsoft;
mod moto;
mod tls;

pub use amazon::AmazonMachine;
pub use clock::Clock;
pub use google::{GoogleCloud, KeyState};
pub use microsoft::{MicrosoftCloud, Secrets};
pub use moto::Moto;
