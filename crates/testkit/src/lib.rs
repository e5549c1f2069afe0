//! For tests: a hostile registry, token servers and stand-ins for the clouds' token services.
#![forbid(unsafe_code)]

mod docker_registry;
mod serving;
mod token;

pub use docker_registry::{DockerRegistry, Login};
pub use serving::Serving;
pub use token::{
    Access, Authority, Claims, Flow, OAuth, Refusal, Scope, TokenConfig, TokenField, TokenRequest,
    TokenServer, User,
};
