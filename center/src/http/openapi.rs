//! The OpenAPI document, made from the handlers and types themselves.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, Content, Ref, RefOr, ResponseBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{answers, apps, broadcasts, docs, messages, multicasts, push, scheduled, targets, types, users};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Longwire",
        description = "Push to devices over long-lived connections. Every call but those of \"docs\" needs \
            `Authorization: Bearer <app key>`. The same operations are served by gRPC on this port, with reflection."
    ),
    paths(
        push::push,
        push::multicast,
        multicasts::stream,
        scheduled::list,
        scheduled::cancel,
        targets::list,
        broadcasts::create,
        broadcasts::preview,
        broadcasts::list,
        broadcasts::progress,
        broadcasts::events,
        broadcasts::change,
        broadcasts::pause,
        broadcasts::resume,
        broadcasts::cancel,
        broadcasts::recall,
        messages::ledger,
        messages::recall,
        users::state,
        users::kick,
        users::token,
        apps::create,
        apps::list,
        apps::show,
        apps::update,
        apps::create_key,
        docs::openapi,
        docs::page,
        docs::page_by_name,
    ),
    components(schemas(types::ErrorBody, answers::App)),
    modifiers(&Everywhere),
    tags(
        (name = "push", description = "Scope `push`"),
        (name = "messages", description = "Scope `read`; recall: `push`"),
        (name = "users", description = "Scope `read` to look, `push` to act"),
        (name = "apps", description = "Scope `admin`"),
        (name = "docs", description = "This document; no key"),
    ),
)]
struct Api;

/// What holds for every operation: the key, and the form of errors.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An app's API key")).build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("app_key", SecurityScheme::Http(scheme));
        let error = ResponseBuilder::new()
            .description(
                "Anything else. 429 and 503 say in `Retry-After` and `retry_after_ms` when to come back.",
            )
            .content("application/json", Content::new(Some(Ref::from_schema_name("ErrorBody"))))
            .build();
        for item in api.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                if operation.tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| tag == "docs")) {
                    continue;
                }
                for response in operation.responses.responses.values_mut() {
                    if let RefOr::T(response) = response {
                        response.description = "Done".to_owned();
                    }
                }
                operation.responses.responses.insert("default".to_owned(), error.clone().into());
                operation.security = Some(vec![SecurityRequirement::new("app_key", Vec::<String>::new())]);
            }
        }
    }
}

/// The document as JSON.
pub(super) fn document() -> String {
    // Maps with text keys and plain values: this cannot fail.
    Api::openapi().to_json().unwrap_or_default()
}
