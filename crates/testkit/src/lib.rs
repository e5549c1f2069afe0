//! For tests: a hostile registry, token servers and stand-ins for the clouds' token services.
#![forbid(unsafe_code)]

pub mod cloud;
mod docker_registry;
mod hostile;
pub mod kubernetes;
mod seeded;
mod serving;
mod token;

pub use docker_registry::{DockerRegistry, Login};
pub use hostile::{
    Chance, Fault, HostileConfig, HostileRegistry, MissingBlobs, Mounts, Operation, RangeLie, Referrers,
    Rule, Seen, Side, SinglePost, Tags, TokenAuth, WrongLocation,
};
pub use seeded::Seeded;
pub use serving::Serving;
pub use token::{
    Access, Authority, Claims, Flow, OAuth, Refusal, Scope, TokenConfig, TokenField, TokenRequest,
    TokenServer, User,
};
