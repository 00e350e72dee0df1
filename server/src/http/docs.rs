//! The OpenAPI document and its pages, from what the binary carries: nothing is loaded from anywhere else.
//!
//! Handlers describe what is particular to them; what holds for every route of a kind (who is refused, how a body may
//! be wrong) is added here, so that it cannot be forgotten.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Operation, Parameter, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_swagger_ui::Config;

use super::extract::PathValues;
use super::problem::Problem;
use crate::wire::fields::FieldError;

const DOCUMENT_PATH: &str = "/api/v1/openapi.json";

/// What stands before the routes.
pub fn preamble() -> OpenApi {
    let bearer = |description: &str| HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
    let components = ComponentsBuilder::new()
        .security_scheme(
            "token",
            SecurityScheme::Http(bearer("The access token of a login").bearer_format("JWT").build()),
        )
        .security_scheme("api_key", SecurityScheme::Http(bearer("The API key of a feed, nxf_…").build()))
        .schema(Problem::name(), Problem::schema())
        .schema(FieldError::name(), FieldError::schema());
    let info = InfoBuilder::new()
        .title("Nexus")
        .version("1")
        .license(Some(LicenseBuilder::new().name("MIT").build()))
        .description(Some(
            "A self-hosted execution engine: trade signals in, risk-checked orders out. Money, prices and quantities are \
             decimal strings; times are RFC 3339 in UTC; errors are application/problem+json; lists are paged with \
             `limit` and `after`.",
        ));
    OpenApiBuilder::new().info(info).components(Some(components.build())).build()
}

/// The finished document.
fn document() -> OpenApi {
    let (_, mut document) = super::api().split_for_parts();
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            add_common_errors(path, operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch].into_iter().flatten()
}

/// Adds how a route of this kind may be refused, unless its handler has said it better.
fn add_common_errors(path: &str, operation: &mut Operation) {
    let is_guarded = operation.security.as_ref().is_some_and(|all| all.iter().any(|one| *one != Default::default()));
    // A stop is made whatever its body is.
    let reads_body = operation.request_body.is_some() && !path.ends_with("/emergency-stop");
    let is_limit = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(one) if one.name == "limit");
    let takes_page = operation.parameters.iter().flatten().any(is_limit);
    let common = [
        (is_guarded, "401", "Not signed in: no, an unknown, an expired or a revoked token or key"),
        (is_guarded, "403", "Signed in, but not for this"),
        (path.contains('{'), "404", "There is no such thing"),
        (reads_body || takes_page, "400", "The body or the query is malformed"),
        (reads_body, "408", "The body did not arrive in time"),
        (reads_body, "413", "The body is too large"),
        (reads_body, "415", "The body is of another media type"),
        (reads_body || takes_page, "422", "A field is wrong"),
        (is_guarded, "503", "Not available now; see Retry-After"),
    ];
    for (_, status, description) in common.into_iter().filter(|(applies, ..)| *applies) {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
        let response =
            ResponseBuilder::new().description(description).content("application/problem+json", content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
    }
    // What a handler declares with a problem as its body has the media type of problems, too.
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        let problem = RefOr::Ref(Ref::from_schema_name(Problem::name()));
        let is_problem =
            |content: &RefOr<Content>| matches!(content, RefOr::T(c) if c.schema.as_ref() == Some(&problem));
        if response.content.get("application/json").is_some_and(is_problem)
            && let Some(content) = response.content.shift_remove("application/json")
        {
            response.content.insert("application/problem+json".to_owned(), content);
        }
    }
}

fn document_json() -> Bytes {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let made = DOCUMENT.get_or_init(|| {
        let text = document().to_json().expect("the document is made of plain values");
        text.into()
    });
    made.clone()
}

/// Describes this API
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "Documentation",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
    security(())
)]
pub async fn openapi_json() -> Response {
    ([(CONTENT_TYPE, "application/json")], document_json()).into_response()
}

/// Shows the documentation to people
#[utoipa::path(
    get, path = "/docs", tag = "Documentation",
    responses((status = 200, description = "A page", body = String, content_type = "text/html")),
    security(())
)]
pub async fn page() -> Response {
    serve("index.html")
}

/// A part of the documentation's page.
pub async fn asset(path: PathValues) -> Response {
    serve(path.get("file"))
}

fn serve(file: &str) -> Response {
    static CONFIG: OnceLock<Arc<Config<'static>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| Arc::new(Config::from(DOCUMENT_PATH)));
    match utoipa_swagger_ui::serve(file, Arc::clone(config)) {
        Ok(Some(found)) if found.gzpipped => {
            let headers = [(CONTENT_TYPE, found.content_type), (CONTENT_ENCODING, "gzip".to_owned())];
            (headers, found.bytes.into_owned()).into_response()
        }
        Ok(Some(found)) => {
            let bytes = if file == "index.html" { with_base(&found.bytes) } else { found.bytes.into_owned() };
            ([(CONTENT_TYPE, found.content_type)], bytes).into_response()
        }
        Ok(None) => Problem::not_found("path").into_response(),
        Err(error) => {
            tracing::error!(%error, "a part of the documentation could not be made");
            Problem::internal().into_response()
        }
    }
}

/// The page names its parts relative to itself; it is served without a slash at the end of its address.
fn with_base(page: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(page).replacen("<head>", "<head><base href=\"/docs/\">", 1).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_route_is_described_with_its_refusals() {
        let document: Value = serde_json::from_slice(&document_json()).expect("JSON");
        assert!(document["openapi"].as_str().expect("a version").starts_with("3.1"));
        let paths = document["paths"].as_object().expect("paths");
        assert_eq!(paths.len(), 29);
        let submit = &paths["/api/v1/signals"]["post"];
        for status in ["200", "202", "207", "400", "401", "403", "408", "409", "413", "415", "422", "429", "503"] {
            assert!(submit["responses"][status].is_object(), "{status}");
        }
        let conflict = &submit["responses"]["409"]["content"];
        assert!(conflict["application/problem+json"].is_object() && conflict["application/json"].is_null());
        let parameters = submit["parameters"].as_array().expect("parameters");
        assert!(parameters.iter().any(|one| one["name"] == "dry_run" && one["in"] == "query"));
        let what_if = &document["components"]["schemas"]["WhatIf"]["properties"];
        assert!(what_if["dry_run"].is_object() && what_if["signal_id"].is_null());
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at + 21..].split('"').next().expect("a name");
            assert!(document["components"]["schemas"][name].is_object(), "{name} is referred to and not described");
        }
        assert!(paths["/health"]["get"]["responses"]["401"].is_null());
    }

    #[tokio::test]
    async fn the_page_and_its_parts_come_from_the_binary() {
        for file in ["index.html", "swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
            let response = serve(file);
            assert_eq!(response.status(), 200, "{file}");
        }
        assert_eq!(serve("../Cargo.toml").status(), 404);
        let page = axum::body::to_bytes(page().await.into_body(), usize::MAX).await.expect("a page");
        let page = String::from_utf8(page.to_vec()).expect("text");
        assert!(page.contains("<base href=\"/docs/\">"));
        assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    }
}
