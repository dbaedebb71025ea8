//! What the pages tell people to type is what the program understands.

use std::{fs, process::Command};

use super::files::pages;

/// The help of a command, if there is one.
fn help(path: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_reelhook")).args(path).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// The lines of a page's blocks, and what stands in backticks between them.
fn code(text: &str) -> Vec<&str> {
    let mut code = Vec::new();
    for (at, part) in text.split("```").enumerate() {
        if at % 2 == 1 {
            code.extend(part.lines());
        } else {
            code.extend(part.split('`').skip(1).step_by(2));
        }
    }
    code
}

#[test]
fn the_pages_call_commands_by_flags_that_exist() {
    let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let mut judged = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for call in code(&text).iter().flat_map(|code| code.split("reelhook ").skip(1)) {
            let call = call.split(['|', ';', '&', ')', '#', '`']).next().unwrap();
            let words: Vec<&str> = call.split_whitespace().collect();
            // What belongs to every command may stand before it.
            let begin = if words.first().is_some_and(|word| word.starts_with("--")) { 2 } else { 0 };
            let path: Vec<&str> = words.iter().skip(begin).copied().take_while(is_word).take(2).collect();
            // A path, an option of another program, or a picture.
            if path.is_empty() || call.starts_with(' ') {
                continue;
            }
            // The second may be what the command is about.
            let known = help(&path).or_else(|| help(&path[..1]));
            let known = known.unwrap_or_else(|| panic!("{} calls `reelhook {call}`", page.display()));
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let there = known.split([' ', ',', '=', '[', '\n']).any(|word| word == flag);
                assert!(there, "{}: `reelhook {call}` has no {flag}", page.display());
            }
            judged += 1;
        }
    }
    assert!(judged > 40, "{judged}");
}
