//! A registry that is a function.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::{Request, State},
    http::Method,
    response::Response,
};
use longshore_testkit::Serving;

/// A server that answers as a function says, which is told the requests before.
pub(crate) struct Scripted {
    serving: Serving,
    asked: Asked,
}

/// Method and path of each request.
type Asked = Arc<Mutex<Vec<String>>>;
type Script = dyn Fn(&[String], &Method, &str) -> Response + Send + Sync;

impl Scripted {
    pub(crate) fn start(
        script: impl Fn(&[String], &Method, &str) -> Response + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let state = (script, Arc::clone(&asked));
        Self { serving: Serving::router(Router::new().fallback(answer).with_state(state)).unwrap(), asked }
    }

    pub(crate) fn host(&self) -> String {
        self.serving.address().to_string()
    }

    /// Method and path of each request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State((script, asked)): State<(Arc<Script>, Asked)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // Everything is read before anything is answered.
    axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut asked = asked.lock().unwrap();
    let path = parts.uri.path_and_query().unwrap().as_str();
    let response = script(&asked, &parts.method, path);
    asked.push(format!("{} {path}", parts.method));
    response
}
