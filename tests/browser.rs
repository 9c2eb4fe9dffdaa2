//! A stranger at the page: the real program, a real browser, and what the page shows.
//!
//! Needs Chromium (`$NEARCAST_CHROMIUM`, or `chromium` or `google-chrome` on the path). Where there is none the test says so
//! and passes; with `CI=true` that is a failure. `NEARCAST_SCREENSHOT=<file>` keeps a picture of the page.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

#[path = "browser/chrome.rs"]
mod chrome;
#[path = "browser/server.rs"]
mod server;

use std::{env, path::PathBuf};

use chrome::Chrome;
use serde_json::json;
use server::{Server, free_port};

const K: usize = 10;
const LISTED: &str = "[...document.querySelectorAll('.card')].map(c => c.dataset.item)";
const NEWS: &str = "document.querySelector('#news').textContent";
/// Everything that was asked for has been answered, by every source: on a busy machine one may be late, and the page asks again.
const CALM: &str =
    "document.querySelector('#page').getAttribute('aria-busy') === 'false' && document.querySelector('#degraded').hidden";

#[test]
fn a_stranger_sees_it_work() {
    let Some(program) = chrome::find() else {
        assert!(env::var("CI").as_deref() != Ok("true"), "no Chromium: set NEARCAST_CHROMIUM");
        eprintln!("skipped: no Chromium on the path, and NEARCAST_CHROMIUM is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (data, port) = (dir.path().join("data"), free_port());
    let server = Server::start(&data, port);
    let mut page = Chrome::start(&program);
    page.prefer("light", true);
    page.resize(1280, 900);

    opens_with_someone(&mut page, &server);
    picks_a_person_with_the_keyboard(&mut page);
    shows_history_and_reasons(&mut page);
    likes_an_item_and_the_list_changes(&mut page);
    keep_a_picture(&mut page);
    writes_a_message(&mut page, "Thinking about a quiet grinder for the morning");
    looks_at_someone_similar(&mut page);
    begins_as_someone_new(&mut page, &server);
    says_what_is_degraded(&mut page);
    keeps_foreign_text_harmless(&mut page);
    fits_a_phone(&mut page);
    is_readable_in_light_and_dark(&mut page, &server);
    assert!(page.complaints.is_empty(), "{:#?}", page.complaints);
    survives_the_end_of_the_server(&mut page, server, &data, port);
}

fn listed(page: &mut Chrome) -> Vec<String> {
    let ids = page.eval(LISTED);
    ids.as_array().unwrap().iter().map(|i| i.as_str().unwrap().to_owned()).collect()
}

fn opens_with_someone(page: &mut Chrome, server: &Server) {
    page.open(&server.address);
    page.wait(&format!("document.querySelectorAll('.card').length === {K} && {CALM}"));
    assert!(!page.text("document.querySelector('#me-name').textContent").trim().is_empty());
    page.wait("document.fonts.status === 'loaded'");
}

fn picks_a_person_with_the_keyboard(page: &mut Chrome) {
    page.press("/", false);
    page.write("maya");
    page.wait("document.querySelector('#person').getAttribute('aria-expanded') === 'true'");
    page.wait("document.querySelector('#people [aria-selected=true]')?.textContent.includes('maya.')");
    let first = page.text("document.querySelector('#people li small').textContent");
    page.press("ArrowDown", false);
    let second = page.text("document.querySelector('#people [aria-selected=true] small').textContent");
    assert!(second.starts_with("maya.") && second != first, "{first} {second}");
    let active = "document.querySelector('#person').getAttribute('aria-activedescendant')";
    assert_eq!(page.text(active), page.text("document.querySelector('#people [aria-selected=true]').id"));
    page.press("Enter", false);
    page.wait(&format!("document.querySelector('#me-sum').textContent.startsWith({second:?}) && {CALM}"));
    assert_eq!(page.text("new URLSearchParams(location.hash.slice(1)).get('user')"), second);
    assert_eq!(page.text("document.querySelector('#person').getAttribute('aria-expanded')"), "false");
}

fn shows_history_and_reasons(page: &mut Chrome) {
    let ids = listed(page);
    assert_eq!(ids.len(), K);
    let mut different = ids.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), K, "{ids:?}");
    page.wait("document.querySelectorAll('#past .said q').length > 0 && document.querySelectorAll('#past .did').length > 0");
    let reasons = page.eval("[...document.querySelectorAll('.card .why')].map(w => w.innerText)");
    for reason in reasons.as_array().unwrap() {
        let reason = reason.as_str().unwrap();
        let known = ["Because ", "Rising now", "New in the catalogue"];
        assert!(known.iter().any(|k| reason.trim_start().starts_with(k)), "{reason}");
    }
    assert!(reasons.to_string().contains("Because "), "nothing is about this person: {reasons}");
    // What is recommended is not what they know already.
    let seen = "[...document.querySelectorAll('#past .did > span')].map(s => s.textContent)";
    let titles = "[...document.querySelectorAll('.card h3 > span:first-child')].map(s => s.textContent)";
    assert_eq!(page.eval(&format!("(({titles}).filter(t => ({seen}).includes(t))).length")), json!(0));
    assert!(page.eval("document.querySelectorAll('#near button').length").as_u64().unwrap() > 2);
    for fact in ["time", "cache", "model"] {
        let shown = page.text(&format!("document.querySelector('[data-fact={fact}]').textContent"));
        assert!(!shown.is_empty(), "{fact}");
    }
}

fn likes_an_item_and_the_list_changes(page: &mut Chrome) {
    let before = listed(page);
    let (item, title) = (&before[1], page.text("document.querySelectorAll('.card h3 > span:first-child')[1].textContent"));
    page.click(".card:nth-child(2) [data-act=like]");
    page.wait(&format!("{NEWS} !== '' && {CALM} && !({LISTED}).includes({item:?})"));
    let after = listed(page);
    assert_eq!(after.len(), K);
    assert_ne!(before, after);
    assert!(page.text(NEWS).contains(&title));
    let newest = page.text("document.querySelector('#past li').innerText");
    assert!(newest.contains(&title) && newest.contains("liked"), "{newest}");
    assert!(page.eval("document.querySelectorAll('.move:not(:empty)').length").as_u64().unwrap() > 0);
}

fn writes_a_message(page: &mut Chrome, text: &str) {
    page.click("#text");
    page.write(text);
    page.press("Enter", true);
    page.wait(&format!(
        "document.querySelector('#past li q')?.textContent === {text:?} && {NEWS}.startsWith('Sent.') && {CALM}"
    ));
    assert_eq!(page.text("document.querySelector('#text').value"), "");
}

fn looks_at_someone_similar(page: &mut Chrome) {
    let name = page.text("document.querySelector('#near button span:nth-child(2)').textContent");
    page.click("#near button");
    page.wait(&format!("document.querySelector('#me-name').textContent === {name:?} && {CALM}"));
    assert_eq!(listed(page).len(), K);
    page.eval("history.back()");
    page.wait(&format!("document.querySelector('#me-name').textContent !== {name:?} && {CALM}"));
}

/// Nobody knows them, one message, and the list is about what they wrote.
fn begins_as_someone_new(page: &mut Chrome, server: &Server) {
    page.press("/", false);
    page.write("a.newcomer");
    page.wait("document.querySelector('#people .fresh')?.textContent.includes('a.newcomer')");
    page.press("Enter", false);
    page.wait(&format!("document.querySelector('#me-name').textContent === 'A Newcomer' && {CALM}"));
    let before = listed(page);
    assert_eq!(before.len(), K, "what is rising, for want of anything better");
    writes_a_message(page, "Starting a reef aquarium: corals, clownfish and clean sea water");
    let after = listed(page);
    assert_ne!(before, after);
    let of_subject = |ids: &[String]| {
        let aquatic = |id: &&String| {
            let item = server.get(&format!("/items/{id}")).unwrap();
            item["categories"].as_array().unwrap().contains(&json!("aquariums"))
        };
        ids.iter().filter(aquatic).count()
    };
    assert!(of_subject(&after) >= 3 && of_subject(&after) > of_subject(&before), "{before:?} {after:?}");
}

/// A source that did not answer is named, and the notice goes when it is back.
fn says_what_is_degraded(page: &mut Chrome) {
    page.eval(
        "window.real = window.fetch; window.fetch = async (path, options) => {
           const answer = await real(path, options);
           if (!String(path).startsWith('/recommendations/')) return answer;
           const body = { ...(await answer.json()), degraded: ['similar_users', 'graph'], cache: 'stale' };
           return new Response(JSON.stringify(body), { status: 200 });
         }; null",
    );
    page.click(".card [data-act=view]");
    let named =
        "document.querySelector('#degraded').textContent.includes('similar people and items that go with earlier ones')";
    page.wait(&format!("!document.querySelector('#degraded').hidden && {named}"));
    assert_eq!(page.text("document.querySelector('[data-fact=cache]').textContent"), "from before");
    page.eval("window.fetch = window.real; null");
    page.wait("document.querySelector('#degraded').hidden");
}

/// What people write is text, whatever it looks like.
fn keeps_foreign_text_harmless(page: &mut Chrome) {
    writes_a_message(page, "<img src=x onerror=\"window.broken = true\"> <b>corals</b> & more");
    assert_eq!(page.eval("document.querySelectorAll('#past img, #past b').length"), json!(0));
    assert_eq!(page.eval("window.broken === undefined"), json!(true));
}

fn fits_a_phone(page: &mut Chrome) {
    for width in [360, 768, 1280] {
        page.resize(width, 780);
        page.wait(&format!("innerWidth === {width}"));
        let broad = "[...document.querySelectorAll('body *')].filter(e => { const r = e.getBoundingClientRect(); \
                     return r.width > 1 && !e.closest('.facts, svg') && (r.right > innerWidth + 1 || r.left < -1); }).map(e => e.outerHTML)";
        assert_eq!(page.eval(broad), json!([]), "at {width}");
        assert_eq!(page.eval("document.documentElement.scrollWidth"), json!(width));
    }
}

fn is_readable_in_light_and_dark(page: &mut Chrome, server: &Server) {
    page.prefer("dark", true);
    page.wait("document.documentElement.dataset.theme === 'dark'");
    contrast(page, "dark");
    page.click("#theme");
    page.wait("document.documentElement.dataset.theme === 'light'");
    contrast(page, "light");
    // The choice outlives the visit.
    page.open(&format!("{}/?again#user=a.newcomer", server.address));
    page.wait(&format!("document.querySelectorAll('.card').length === {K} && {CALM}"));
    assert_eq!(page.text("document.documentElement.dataset.theme"), "light");
    // The keyboard can be followed.
    page.press("Tab", false);
    page.press("Tab", false);
    let outline = "getComputedStyle(document.activeElement).outlineStyle + ' ' + document.activeElement.id";
    assert_eq!(page.text(outline), "solid person");
    page.press("Escape", false);
}

/// Every text on its ground reaches 4.5 to 1 (WCAG 2.2, 1.4.3).
fn contrast(page: &mut Chrome, theme: &str) {
    let weak = page.eval(
        "(() => {
           const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
           const rgb = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data; };
           const light = c => { const [r, g, b] = [...c].map(v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
             return .2126 * r + .7152 * g + .0722 * b; };
           const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 250) return c; } return [255, 255, 255]; };
           const shown = [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && !e.closest('.unseen, .skip') &&
             [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
           return shown.map(e => { const a = light(rgb(getComputedStyle(e).color)), b = light(ground(e));
             return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.className, e.textContent.slice(0, 40)]; }).filter(x => x[0] < 4.5);
         })()",
    );
    assert_eq!(weak, json!([]), "{theme}");
}

/// The page says kindly that the server is gone, keeps what was written, and goes on when it is back.
fn survives_the_end_of_the_server(page: &mut Chrome, server: Server, data: &std::path::Path, port: u16) {
    page.click("#text");
    page.write("Is anybody there?");
    server.kill();
    page.press("Enter", true);
    page.wait("!document.querySelector('#trouble').hidden");
    let notice = page.text("document.querySelector('#trouble').textContent");
    assert!(notice.contains("does not answer"), "{notice}");
    assert_eq!(page.text("document.querySelector('#text').value"), "Is anybody there?");
    let _again = Server::start(data, port);
    page.wait(&format!("document.querySelector('#trouble').hidden && {CALM}"));
    // Nothing that was accepted is lost.
    let kept = "[...document.querySelectorAll('#past q')].map(q => q.textContent)";
    assert!(page.eval(kept).as_array().unwrap().iter().any(|t| t.as_str().unwrap().starts_with("Starting a reef aquarium")));
    page.click("#send");
    page.wait(&format!("document.querySelector('#past li q')?.textContent === 'Is anybody there?' && {CALM}"));
}

fn keep_a_picture(page: &mut Chrome) {
    let Some(file) = env::var_os("NEARCAST_SCREENSHOT").map(PathBuf::from) else { return };
    page.eval("document.activeElement.blur(); scrollTo(0, 0)");
    page.call("Input.dispatchMouseEvent", json!({"type": "mouseMoved", "x": 1270, "y": 880}));
    page.screenshot(&file);
}
