//! The files of the page, compiled in: every node serves the same ones and needs no folder beside it.

use axum::{Router, http::header, response::IntoResponse, routing::get};

use crate::wire::{MAX_NAME, MAX_PICTURE, MAX_ROOM_NAME, MAX_TEXT};

pub(crate) fn routes(port: u16) -> Router {
    let index = include_str!("page/index.html")
        .replace("{{port}}", &port.to_string())
        .replace("{{picture_limit}}", &MAX_PICTURE.to_string())
        .replace("{{text_limit}}", &MAX_TEXT.to_string())
        .replace("{{name_limit}}", &MAX_NAME.to_string())
        .replace("{{room_limit}}", &MAX_ROOM_NAME.to_string());
    Router::new()
        .route("/", file("text/html; charset=utf-8", index))
        .route("/chat.css", file("text/css; charset=utf-8", include_str!("page/chat.css")))
        .route("/chat.js", script(include_str!("page/chat.js")))
        .route("/conversations.js", script(include_str!("page/conversations.js")))
        .route("/names.js", script(include_str!("page/names.js")))
        .route("/view.js", script(include_str!("page/view.js")))
        .route("/trunkline-client.js", script(include_str!("page/trunkline-client.js")))
        .route("/socket.io.min.js", script(include_str!("vendor/socket.io.min.js")))
        .route("/icon.svg", file("image/svg+xml", include_str!("page/icon.svg")))
}

fn script(text: &'static str) -> axum::routing::MethodRouter {
    file("text/javascript; charset=utf-8", text)
}

fn file(kind: &'static str, text: impl Into<axum::body::Bytes>) -> axum::routing::MethodRouter {
    let text = text.into();
    // Nodes are stopped and started with other versions of the page: a browser must ask again.
    get(
        move || async move { ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response() },
    )
}
