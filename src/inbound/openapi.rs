//! The OpenAPI document: written by hand, held to the table of routes by a test.

use actix_web::HttpResponse;

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::{
        super::{auth::Access, kinds, routes::endpoints},
        DOCUMENT,
    };

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn the_document_lists_every_route_with_its_right_and_no_other() {
        let document = document();
        let mut listed = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in
                methods.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                listed.insert((path.clone(), method.to_uppercase(), operation["security"].to_string()));
            }
        }
        let served = endpoints().into_iter().map(|endpoint| {
            let security = match endpoint.access {
                Access::Open => json!([]),
                Access::Key(scope) => json!([{ "key": [scope] }]),
                Access::Page => json!([{ "key": ["read"] }, { "page": [] }]),
            };
            (endpoint.path.to_owned(), endpoint.method.to_string(), security.to_string())
        });
        assert_eq!(listed, served.collect::<BTreeSet<_>>());
    }

    #[test]
    fn the_document_is_of_this_version_and_names_every_kind_of_problem() {
        let document = document();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let named =
            document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
        let slugs = kinds::ALL.iter().map(|kind| kind.slug);
        let plain = ["not-found", "method-not-allowed", "request-timeout", "range-not-satisfiable"];
        assert_eq!(
            named.iter().map(|slug| slug.as_str().unwrap()).collect::<Vec<_>>(),
            slugs.chain(plain).collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document = document();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(members) => {
                    if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                        assert!(document.pointer(&target[1..]).is_some(), "{target}");
                    }
                    open.extend(members.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }
}
