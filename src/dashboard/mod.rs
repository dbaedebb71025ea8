//! Pages for people, rendered here and without a script: the newest jobs, one job, and what a problem means.

mod show;

use std::borrow::Cow;

use askama::Template;
use rust_embed::RustEmbed;

use crate::{
    app::Document,
    lifecycle::{Delivery, Job, Millis},
    store::{Counts, LogEntry},
};
use show::{Detail, Moment, Row, Told};

/// What every page needs to know.
#[derive(Clone, Debug)]
pub struct Page {
    /// Stands before every path of a link; no slash at its end.
    pub base: String,
    /// The present.
    pub now: Millis,
    /// Why no create calls are made at the moment, if so; the upstream's words.
    pub pause: Option<String>,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct Jobs<'a> {
    base: &'a str,
    pause: Option<&'a str>,
    rows: Vec<Row>,
    more: bool,
    /// Name and number of jobs.
    totals: Vec<(&'static str, u64)>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct One<'a> {
    base: &'a str,
    job: Detail,
    timeline: Vec<Moment>,
    deliveries: Vec<Told>,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem<'a> {
    base: &'a str,
    slug: &'a str,
    title: &'a str,
    status: u16,
    retryable: bool,
    text: &'a str,
}

/// The newest jobs with their requests, newest first; `more`: there are older ones.
#[must_use]
pub fn jobs(page: &Page, jobs: &[(Job, Document)], more: bool, counts: &Counts) -> String {
    let rows = jobs.iter().map(|(job, document)| Row::new(job, document, page.now)).collect();
    let pause = page.pause.as_deref();
    render(&Jobs { base: &page.base, pause, rows, more, totals: show::totals(counts) })
}

/// What a page shows of a job beside its record and its request.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Its timeline.
    pub events: Vec<LogEntry>,
    /// Who is told of it, newest first.
    pub deliveries: Vec<Delivery>,
}

/// One job with its timeline and its videos; `link` gives the address of a stored file by its name.
#[must_use]
pub fn job(
    page: &Page,
    job: &Job,
    document: &Document,
    history: &History,
    link: impl Fn(&str) -> String,
) -> String {
    let timeline = history.events.iter().map(|entry| Moment::new(entry, job.created_at)).collect();
    let deliveries = history.deliveries.iter().map(Told::new).collect();
    render(&One { base: &page.base, job: Detail::new(job, document, page, link), timeline, deliveries })
}

/// What a kind of problem means.
#[must_use]
pub fn problem(page_base: &str, slug: &str, title: &str, status: u16, retryable: bool, text: &str) -> String {
    render(&Problem { base: page_base, slug, title, status, retryable, text })
}

/// Rendering writes to memory and fails only if a value's own `Display` does, and none of ours does.
fn render(template: &impl Template) -> String {
    template.render().unwrap_or_default()
}

#[derive(RustEmbed)]
#[folder = "src/dashboard/assets"]
struct Assets;

/// A file that is part of the binary.
pub struct Asset {
    /// Its bytes.
    pub content: Cow<'static, [u8]>,
    /// MIME type.
    pub content_type: &'static str,
    /// SHA-256 in hex.
    pub hash: String,
}

/// The embedded file of this name.
#[must_use]
pub fn asset(name: &str) -> Option<Asset> {
    let content_type = match name.rsplit_once('.')?.1 {
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    };
    let file = Assets::get(name)?;
    Some(Asset { hash: hex::encode(file.metadata.sha256_hash()), content: file.data, content_type })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{JobId, NewJob};

    #[test]
    fn what_a_stranger_typed_is_escaped() {
        let page = Page { base: String::new(), now: Millis(1_000), pause: Some("<script>no credits".into()) };
        let new = NewJob { model: "<script>alert(1)</script>".into(), ..NewJob::default() };
        let job = Job::new(JobId::new(Millis(1), &[1; 10]), Millis(1), new);
        let mut document = Document::default();
        document.input.insert("prompt".into(), "<img src=x onerror=alert(1)>".into());
        let list = jobs(&page, &[(job.clone(), document.clone())], false, &Counts::default());
        let one = super::job(&page, &job, &document, &History::default(), |name| name.to_owned());
        for html in [list, one] {
            assert!(html.contains("&#60;img src=x"), "{html}");
            assert!(!html.contains("<script") && !html.contains("<img src=x"), "{html}");
        }
    }

    #[test]
    fn a_pause_is_told_on_the_list_and_on_a_job_that_waits() {
        let page = |pause: Option<&str>| Page {
            base: String::new(),
            now: Millis(1_000),
            pause: pause.map(str::to_owned),
        };
        let job = Job::new(JobId::new(Millis(1), &[1; 10]), Millis(1), NewJob::default());
        let rows = [(job.clone(), Document::default())];
        let html = |page: &Page| {
            [
                jobs(page, &rows, false, &Counts::default()),
                super::job(page, &job, &Document::default(), &History::default(), str::to_owned),
            ]
        };
        for html in html(&page(Some("insufficient credits"))) {
            assert!(html.contains("insufficient credits"), "{html}");
        }
        for html in html(&page(None)) {
            assert!(!html.contains("refuses"), "{html}");
        }
    }

    #[test]
    fn an_asset_is_found_by_its_name_only() {
        assert_eq!(asset("style.css").unwrap().content_type, "text/css; charset=utf-8");
        for name in ["", "style", "../mod.rs", "templates/jobs.html", "/etc/passwd"] {
            assert!(asset(name).is_none(), "{name}");
        }
    }
}
