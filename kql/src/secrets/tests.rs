//! Texts in, what is shown of them out.

use proptest::prelude::*;

use super::*;

#[test]
fn secrets_in_words_of_others_are_left_out() {
    for (text, shown) in [
        (
            "cannot read https://x.blob.core.windows.net/c/b.csv?sv=2024-11-04&sig=hunter2%3D (403), see https://aka.ms/kusto",
            "cannot read https://x.blob.core.windows.net/c/b.csv?… (403), see https://aka.ms/kusto",
        ),
        ("h@'https://x.blob.core.windows.net/c;hunter2=='", "h@'https://x.blob.core.windows.net/c;…'"),
        (
            "to \"https://me:hunter2@x.example/?a\", and ftp://me:hunt;er2@y",
            "to \"https://…@x.example/?…\", and ftp://…",
        ),
        ("https://a.example/?to=https://b.example&sig=hunter2", "https://a.example/?…"),
        ("?sv=2024&sig=hunter2%2B==&se=2026", "?sv=2024&sig=…&se=2026"),
        ("Data Source=x;Password=hunter2;Fed=true", "Data Source=x;Password=…;Fed=true"),
        ("AccountKey = 'hunter2 and more'.", "AccountKey = '…'."),
        ("client_secret=hunter2\nis wrong", "client_secret=…\nis wrong"),
        ("Authorization: Bearer hunter2-hunter2-hunter2, refused", "Authorization: Bearer …, refused"),
        (r#"{"Authorization":"Bearer djE6YWJjZGVmZ2hpamts","x":1}"#, r#"{"Authorization":"Bearer …","x":1}"#),
        (r#"{"Authorization":"Bearer djE6YWJjZGVmZ2hpamt=","x":1}"#, r#"{"Authorization":"Bearer …","x":1}"#),
        (r#""Bearer djE6YWJjZGVmZ2hpamts"; try again"#, r#""Bearer …"; try again"#),
        ("<Bearer  djE6YWJjZGVmZ2hpamts>", "<Bearer  …>"),
        (
            r#"{"a":"Bearer djE6YWJjZGVmZ2hpamts","another_word_in_json":1}"#,
            r#"{"a":"Bearer …","another_word_in_json":1}"#,
        ),
        ("access_token=Bearer djE6YWJjZGVmZ2hpamts is over", "access_token=… … is over"),
        ("the token 'eyJhbGciOi.hunter2.x' is over", "the token '… is over"),
        // What closes a sentence is no part of an address.
        ("for url (https://x/?api-version=1): error", "for url (https://x/?…): error"),
        ("[see https://x/?a=hunter2], or https://y#hunter2.", "[see https://x/?…], or https://y#…."),
        ("[see https://x/?sig=hunter2], or https://y#hunter2.", "[see https://x/?… or https://y#…."),
        (r#"Get \"https://x/?sig=hunter2\": EOF"#, r#"Get \"https://x/?…\": EOF"#),
        ("at https://me:Password=hunter2@x or https://y", "at https://… or https://y"),
        // In JSON, and in texts inside it.
        (r#"{"password":"hunter2","a":1}"#, r#"{"password":"…","a":1}"#),
        (r#"{'client-secret' : 'hunter2'}"#, r#"{'client-secret' : '…'}"#),
        ("{\"pwd\":\n  \"hunter2\"}", "{\"pwd\":\n  \"…\"}"),
        (r#"{"password":31337,"a":1}"#, r#"{"password":…,"a":1}"#),
        (r#"{"password":["hunter", "hunter2"]}"#, r#"{"password":…"#),
        (r#""{\"password\":\"hunter2\",\"a\":1}""#, r#""{\"password\":\"…\",\"a\":1}""#),
        (r#"Password=\"hunter2\", and"#, r#"Password=\"…\", and"#),
        (r#"Password="a\"hunter2" and"#, r#"Password="…" and"#),
        (r#"Password=\"a\\\"hunter2\" and"#, r#"Password=\"…\" and"#),
        ("Password='a''hunter2' and", "Password='…' and"),
        ("Password='hunter2", "Password='…"),
        // In quotes that are written several times.
        (r#"{""password"":""hunter2"",""a"":1}"#, r#"{""password"":""…"",""a"":1}"#),
        (r#"{""password"":""a\""hunter2"",""a"":1}"#, r#"{""password"":""…"",""a"":1}"#),
        (r#""{\"\"pwd\"\":\"\"hunter2\"\",1}""#, r#""{\"\"pwd\"\":\"\"…\"\",1}""#),
        ("Password=''hunter2'' and", "Password=''…'' and"),
        ("Password=''a''''hunter2'' and", "Password=''…'' and"),
        ("Password=''''hunter2'''' and", "Password=''''…'''' and"),
        ("Password='''hunter2' and", "Password='…' and"),
        // A quote in the password of an address.
        ("to https://me:hunt'er2@x, and", "to https://… and"),
        ("to 'https://me:hunt\"er2@x' and https://y", "to 'https://… and https://y"),
        // Blanks and quotes in a connection string.
        ("Password=my hunter2;Fed=true", "Password=…;Fed=true"),
        ("is it right? Password=my hunter2;", "is it right? Password=…;"),
        ("Password=my 'hunter2;Fed=true", "Password=…;Fed=true"),
        ("Password=hunter2 and\nmore; of it", "Password=… and\nmore; of it"),
        ("Password=hunter2 and pwd='a;hunter2'", "Password=… and pwd='…'"),
        // What is left out of an address does not take the name of a value with it, nor a value an address.
        (
            "Data Source=https://x.kusto.windows.net;Fed=True;Application Key=hunter2 refused",
            "Data Source=https://x.kusto.windows.net;… Key=… refused",
        ),
        ("sig=hunter2 and https://x/c;hunter2 too", "sig=…;… too"),
        ("read 'https://x/?sig=hunter2' and 'https://x/c;hunter2'", "read 'https://x/?…' and 'https://x/c;…'"),
        ("https://me:my.eyJhbGciOi.hunter2.x@x.example", "https://…"),
        // A quote inside a value, as that of a literal with a prefix.
        ("with (password=h'my hunter2')", "with (password=…')"),
        ("AccountKey=h@'hunter2', and", "AccountKey=…', and"),
        (r#"Password = @"hunter2" and"#, r#"Password = …" and"#),
        ("{'password': b'hunter2'}", "{'password': …'}"),
        (r#"{\"password\":b\"hunter2\",\"a\":1}"#, r#"{\"password\":…\",\"a\":1}"#),
        ("Password=hunt\"er2 is wrong", "Password=…"),
        ("Password=a\"b pwd=\"hunter2\"", "Password=…"),
        (
            "'Password=hunter2', \"Password=hunter2\", `Password=hunter2`.",
            "'Password=…', \"Password=…\", `Password=…`.",
        ),
        // In Go's JSON.
        (r"?sv=1\u0026sig=hunter2", r"?sv=1\u0026sig=…"),
    ] {
        assert_eq!(redacted(text), shown);
        assert_eq!(redacted(shown), shown, "it is shown as it is by whoever passes it on");
    }
}

#[test]
fn names_of_secrets_are_known_however_they_are_written() {
    for name in [
        "sig",
        "Signature",
        "SharedAccessSignature",
        "AccountKey",
        "Shared Access Key",
        "ApplicationKey",
        "Application Key",
        "AppKey",
        "ApplicationToken",
        "Application Token",
        "AppToken",
        "User Token",
        "UserToken",
        "UsrToken",
        "PASSWORD",
        "db-password",
        "sqlPassword",
        "Pwd",
        "client_secret",
        "clientSecret",
        "access_token",
        "refresh-token",
        "DBPassword",
        "dbpassword",
        "mypassword",
        "SASSignature",
        "storage1AccountKey",
        "DBPwd",
        "db1PWD",
        "SASSig",
    ] {
        assert!(ends_with_a_name(name), "{name}");
        assert_eq!(redacted(&format!("a;{name}=hunter2;b")), format!("a;{name}=…;b"));
        assert_eq!(redacted(&format!("{name} = 'hunter2'")), format!("{name} = '…'"));
        assert_eq!(redacted(&format!("{{\"{name}\": \"hunter2\"}}")), format!("{{\"{name}\": \"…\"}}"));
    }
    for name in ["", "geo", "design", "token", "passwords", "mypwd", "DESIG", "2sig"] {
        assert!(!ends_with_a_name(name), "{name}");
    }
}

#[test]
fn nothing_of_a_secret_is_shown_wherever_a_text_is_cut() {
    for secret in [
        "https://me:hunter2@x.example/",
        "https://me:hunt'er2@x.example/",
        "https://x/?sig=hunter2",
        "Password=hunter2",
        "Password=my own hunter2 of old;",
        "Password='b hunter2'",
        r#"{"password":"hunter2"}"#,
        "Bearer hunter2-hunter2-hunter2",
        "eyJhunter2-hunter2",
        "Password=h'my hunter2'",
        "https://x;Application Key=hunter2",
        r#""Bearer hunter2-hunter2-hunter2","a"#,
    ] {
        // What is left out makes room for what is close to the end of what is looked at.
        for before in ["", "https://x/?", "Password='b "] {
            for filling in 0..LOOKED_AT * 32 + 32 {
                let told = shown(&format!("{before}{}' {secret}", "a".repeat(filling)), 32);
                assert!(!told.contains("hunt") && told.chars().count() <= 32, "{told}");
            }
        }
    }
    assert_eq!(shown("a short text", 32), "a short text");
    assert_eq!(shown(&"é".repeat(1000), 32), "é".repeat(32));
    assert_eq!(shown("a", 0), "");
}

#[test]
fn what_is_left_over_is_known() {
    let signed = format!("https://x/{}?sig=hunter2", "a".repeat(20));
    assert_eq!(beginning(&signed, 32), (signed.replace("sig=hunter2", "…"), false), "all is told");
    assert_eq!(beginning(&signed, 31), (signed[..31].to_owned(), true));
    assert_eq!(beginning(&format!("https://{}", "a".repeat(600)), 32), ("https://".to_owned(), true));
    assert_eq!(beginning(&"a".repeat(32), 32), ("a".repeat(32), false));
    assert_eq!(beginning(&"a".repeat(33), 32), ("a".repeat(32), true));
}

#[test]
fn what_a_message_quotes_may_be_an_address_without_its_scheme() {
    let message = |role: &str| format!("unknown variant `{role}`, expected `Partition` or `Federated`");
    for (role, shown) in
        [("me:hunter2@x", "…@x"), ("https://me:hunter2@x", "https://…@x"), ("Password=hunter2", "Password=…")]
    {
        assert_eq!(redacted_quotes(&message(role)), message(shown));
    }
    assert_eq!(redacted_quotes(&message("Hub")), message("Hub"));
    for (text, shown) in [
        (r#"["me:hunter2@x.example"]"#, r#"["…@x.example"]"#),
        ("[{endpoint: me:hunter2@a}, {endpoint: https://b}]", "[{endpoint: …@a}, {endpoint: https://b}]"),
        ("[me:hunter2@a,https://b?a=hunter2]", "…@a,https://b?…"),
        ("me:hunter2@x;Application Key=hunter2", "…@x;… Key=…"),
        // A blank in a password.
        (r#"["https://me:my hunter2@x"]"#, r#"["https://…@x"]"#),
        ("endpoint: https://me:my hunter2@x.example # mine", "endpoint: https://…@x.example # mine"),
        (r#"["https://a.example", "me:hunter2@x"]"#, r#"["https://a.example", "…@x"]"#),
        // An image by its digest.
        ("x.azurecr.io/agent@sha256:0123", "x.azurecr.io/agent@sha256:0123"),
    ] {
        assert_eq!(redacted_quotes(text), shown);
    }
}

#[test]
fn a_line_has_no_control_characters_and_none_hides_a_name() {
    assert_eq!(line("a\r\nb\u{1b}[2J", 32), "a  b[2J");
    assert_eq!(line("App\u{7}Key=hunter2", 32), "AppKey=…");
    assert_eq!(line("to https://me:hunt\u{1}er2@x", 32), "to https://…@x");
    assert_eq!(line(&"\n".repeat(1000), 32), " ".repeat(32));
}

/// Pieces of what is looked for, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "://",
            "https://",
            "@",
            "?",
            "#",
            ";",
            "&",
            ":",
            "=",
            "==",
            "=~",
            "'",
            "''",
            "\"",
            "`",
            "\\",
            "\\\"",
            " ",
            "\n",
            ",",
            ".",
            ")",
            "]",
            "}",
            "{",
            "[",
            "<",
            "password",
            "App Key",
            "sig",
            "bearer ",
            "eyJ",
            "abcdefghijklmnop",
            "…",
            "é",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_redacted_stays_as_it_is(text in pieces(), chars in 0..40_usize) {
        let told = redacted(&text);
        prop_assert_eq!(redacted(&told), told);
        prop_assert!(shown(&text, chars).chars().count() <= chars);
    }

    #[test]
    fn a_text_without_anything_that_tells_a_secret_is_unchanged(text in "[^=:eE]{0,64}") {
        prop_assert_eq!(redacted(&text), text);
    }

    #[test]
    fn a_named_value_is_never_shown(
        before in pieces(),
        separator in prop::sample::select(vec![" ", ";"]),
        name in prop::sample::select([NAMES.as_slice(), &["App Key", "Shared Access Key", "User Token"]].concat()),
        after in pieces(),
    ) {
        let text = format!("{before}{separator}{name}=hunter2 {after}");
        prop_assert!(!redacted(&text).contains("hunter2"), "{text}");
        prop_assert!(!redacted_quotes(&text).contains("hunter2"), "{text}");
    }

    #[test]
    fn a_named_value_in_quotes_is_never_shown(
        before in pieces(),
        name in prop::sample::select(NAMES.to_vec()),
        quote in prop::sample::select(vec!["\"", "'", "\\\"", "\"\"", "''", "\\\"\\\"", "\"\"\"\""]),
        sign in prop::sample::select(vec![":", ": ", "=", " = "]),
        prefix in prop::sample::select(vec!["", "h", "@", "h@", "b"]),
        after in pieces(),
    ) {
        for name in [format!("{quote}{name}{quote}{sign}"), format!("{name}=")] {
            let text = format!("{before} {name}{prefix}{quote}hunter2{quote} {after}");
            prop_assert!(!redacted(&text).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn what_is_secret_in_an_address_is_never_shown(
        before in pieces(),
        address in prop::sample::select(vec!["me:hunter2@x", "x/c;hunter2", "x/?a=hunter2", "x#hunter2"]),
        after in pieces(),
    ) {
        let text = format!("{before} https://{address} {after}");
        prop_assert!(!redacted(&text).contains("hunter2"), "{text}");
        let text = format!("{before} me:hunter2@x {after}");
        prop_assert!(!redacted_quotes(&text).contains("hunter2"), "{text}");
    }

    #[test]
    fn a_bearers_token_is_never_shown(
        before in pieces(),
        end in prop::sample::select(vec!["", "\"", "'", "\\\"", ",", ";", "}", ")", "]", ">", "\"}", "\","]),
        after in pieces(),
    ) {
        let text = format!("{before} Bearer hunter2-hunter2-hunter2{end} {after}");
        prop_assert!(!redacted(&text).contains("hunter2"), "{text}");
    }
}

#[test]
fn other_words_are_shown_as_they_are() {
    for text in [
        "",
        "Semantic error: 'where' operator: Failed to resolve column 'Levél'",
        "where Password == 'x' | extend design=1, config=sig",
        "what it is for: https://x.kusto.windows.net/; http://127.0.0.1:8080 failed?",
        "Bearer authorization is needed: bearer",
        "the table 'MonkeyJumpsOverTheFenceAgain', eyJ",
        "sig=",
        "://",
        "Password = ",
        "the password: it is wrong, 'geo': 'EU'",
        "Password='', Pwd=\"\"",
        r#"{\"password\":\"\",\"a\":1}"#,
        r#"{"password":"","a":1}"#,
        r#"Bearer authorization_uri="https://login.microsoftonline.com/common", error="invalid_token""#,
        r#"Bearer realm="a realm that is long""#,
        r#"{"challenge":"Bearer authorization_uri=\"https://login.microsoftonline.com/common\""}"#,
        "spec.federation.partitioning.sig = …: must not be a secret",
    ] {
        assert_eq!(redacted(text), text);
    }
}
