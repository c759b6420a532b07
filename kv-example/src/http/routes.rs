//! Which path is whose.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Query, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::HttpError;
use super::{
    HEAD_BYTES_MAX, HEADERS_MAX, Node, keys, leases, metrics, pages, probes, transactions, watches,
};

pub(super) fn router(node: Arc<Node>) -> Router {
    let key = || get(keys::get).put(keys::put).delete(keys::delete);
    let lease = get(leases::get).delete(leases::revoke);
    Router::new()
        .route("/v1/kv", get(pages::get))
        .route("/v1/kv/", key())
        .route("/v1/kv/{*key}", key())
        .route("/v1/transactions", post(transactions::post))
        .route("/v1/leases", post(leases::grant))
        .route("/v1/leases/{id}", lease)
        .route("/v1/leases/{id}/keep-alive", post(leases::keep_alive))
        .route("/v1/watch", get(watches::get))
        .route("/v1/status", get(probes::status))
        .route("/healthz", get(probes::healthz))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(metrics::get))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(Arc::clone(&node), around))
        .with_state(node)
}

async fn no_route(request: Request) -> HttpError {
    let message = format!("there is nothing at {}", request.uri().path());
    HttpError::new(StatusCode::NOT_FOUND, "no-route", message)
}

async fn no_method(method: Method, request: Request) -> HttpError {
    let message = format!("{} takes no {method}", request.uri().path());
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", message)
}

/// What is done for every request.
async fn around(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let under_way = node.metrics.begin();
    let mut response = match check_head(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    // A key that was deleted begins anew with version 1: a cache would take the new value for the old one.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    under_way.end(route, &method, response.status());
    response
}

fn check_head(request: &Request) -> Result<(), HttpError> {
    let headers = request.headers();
    let line_bytes = request.uri().path_and_query().map_or(0, |line| line.as_str().len());
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if line_bytes + bytes.sum::<usize>() <= HEAD_BYTES_MAX && headers.len() <= HEADERS_MAX {
        return Ok(());
    }
    let message = format!(
        "the line and the headers of a request have at most {HEAD_BYTES_MAX} bytes, and there are at most {HEADERS_MAX} headers"
    );
    Err(HttpError::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", message))
}

/// The parameters of a query, of which none may be unknown.
pub(super) struct Parameters<T>(pub(super) T);

/// None at all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Parameters<T>, HttpError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Parameters(parameters)),
            Err(rejection) => Err(HttpError::bad("bad-query", rejection.body_text())),
        }
    }
}
