//! Where videos are kept: a folder, or a bucket of one of three clouds.

use crate::Setup;

#[cfg(all(feature = "s3", feature = "gcs", feature = "azure"))]
mod buckets {
    use reelhook::config::{Backup, Bucket, Cloud, Serve};
    use secrecy::ExposeSecret as _;

    use super::*;

    fn bucket(setup: Setup) -> Bucket {
        setup.load().config.storage.bucket.unwrap()
    }

    #[test]
    fn a_url_names_the_cloud_the_bucket_and_what_keys_begin_with() {
        for (url, cloud, name, prefix) in [
            ("s3://videos", Cloud::S3, "videos", ""),
            ("s3://my.videos-1/", Cloud::S3, "my.videos-1", ""),
            ("gs://videos/team/one", Cloud::Gcs, "videos", "team/one"),
            ("gs://my_videos/env=prod/", Cloud::Gcs, "my_videos", "env=prod"),
            ("az://videos/one", Cloud::Azure, "videos", "one"),
        ] {
            let found = bucket(Setup::new().flag("storage.url", url));
            assert_eq!((found.cloud, &*found.name, &*found.prefix), (cloud, name, prefix), "{url}");
            assert_eq!((found.serve, found.credentials.is_none()), (Serve::Proxy, true));
        }
        for url in
            ["s3://", "s3:///videos", "s3://a b", "gs://videos//one", "az://videos/../one", "s3://u:p@videos"]
        {
            let problem = Setup::new().flag("storage.url", url).only_problem();
            assert!(problem.contains("must be a bucket"), "{url}: {problem}");
        }
    }

    #[test]
    fn what_a_bucket_needs_is_typed_or_read_from_its_file_or_its_credential() {
        let text = "[storage]\nurl = \"s3://videos\"\nendpoint = \"http://10.0.0.5:9000\"\nregion = \"eu-1\"\n\
                    serve = \"redirect\"\nspool = \"tmp\"\n";
        let setup =
            Setup::with(&format!("{text}credentials_file = \"key\"\n")).private("key", "ID:SEC:RET\n");
        let config = setup.load().config;
        let found = config.storage.bucket.as_ref().unwrap();
        assert_eq!(found.endpoint.as_ref().unwrap().as_str(), "http://10.0.0.5:9000/");
        assert_eq!((found.region.as_deref(), found.serve), (Some("eu-1"), Serve::Redirect));
        assert_eq!(found.key(), Some(("ID", "SEC:RET")));
        assert_eq!(config.storage.root, setup.dir.path().join("tmp"));
        assert!(!format!("{config:?}").contains("SEC:RET"));
        let by_systemd = bucket(Setup::with(text).credential("storage.credentials", "id:x"));
        assert_eq!(by_systemd.credentials.unwrap().expose_secret(), "id:x");
        let usual = Setup::with("storage.url = \"gs://videos\"").load().config.storage.root;
        assert!(usual.ends_with("data/spool"), "{usual:?}");
    }

    #[test]
    fn a_backup_in_a_bucket_is_reached_as_the_videos_are_unless_they_are_in_another_cloud() {
        let backup = |videos: &str, url: &str| {
            let access = "endpoint = \"http://10.0.0.5:9000\"\ncredentials = \"id:key\"";
            let text = format!("store.backup = \"{url}\"\n[storage]\nurl = \"{videos}\"\n{access}\n");
            let loaded = Setup::with(&text).load();
            let idle = loaded.warnings.iter().find(|warning| warning.message.contains("has no effect"));
            assert!(idle.is_none(), "{idle:?}");
            let Some(Backup::Bucket(bucket)) = loaded.config.backup else { panic!("no bucket") };
            (bucket.to_string(), bucket.endpoint.is_some(), bucket.key().is_some())
        };
        for videos in ["file:./videos", "s3://videos"] {
            assert_eq!(backup(videos, "s3://safe/one"), ("s3://safe/one".to_owned(), true, true), "{videos}");
        }
        assert_eq!(backup("s3://videos", "gs://safe"), ("gs://safe".to_owned(), false, false));
        let problem = Setup::new().flag("store.backup", "s3://a b").only_problem();
        assert!(problem.contains("store.backup") && problem.contains("must be a bucket"), "{problem}");
    }

    #[test]
    fn credentials_have_the_form_that_their_cloud_gives_them_and_are_never_repeated() {
        for (url, wrong, right, wanted) in [
            ("s3://v", "justone", "id:key", "ID:SECRET"),
            ("s3://v", ":justone", "id:key", "ID:SECRET"),
            ("az://v", "justone", "account:key==", "ACCOUNT:KEY"),
            ("gs://v", "justone", "{\"client_email\":\"a@b\"}", "JSON"),
        ] {
            let setup =
                |secret: &str| Setup::new().flag("storage.url", url).flag("storage.credentials", secret);
            let problem = setup(wrong).only_problem();
            assert!(problem.contains(wanted) && !problem.contains("justone"), "{problem}");
            setup(right).load();
        }
    }

    #[test]
    fn the_spool_is_no_part_of_the_store() {
        let text = "storage.url = \"s3://videos\"\nstorage.spool = \"data/state/spool\"";
        let problem = Setup::with(text).only_problem();
        assert!(
            problem.starts_with("storage.spool (") && problem.contains("apart from `store.url`"),
            "{problem}"
        );
    }
}

#[test]
fn a_folder_has_nowhere_to_redirect_to_and_no_use_for_what_a_bucket_needs() {
    let problem = Setup::with("storage.serve = \"redirect\"").only_problem();
    assert!(problem.starts_with("storage.serve (") && problem.contains("a folder"), "{problem}");
    assert!(Setup::with("storage.serve = \"both\"").only_problem().contains("not `both`"));
    let setup = Setup::with(
        "[storage]\nendpoint = \"https://s3.example.com\"\nregion = \"x\"\ncredentials = \"a:b\"",
    );
    let idle = setup
        .warnings()
        .into_iter()
        .filter(|warning| warning.contains("unless storage.url or store.backup names a bucket"));
    assert_eq!(idle.count(), 3);
}

#[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
#[test]
fn a_build_without_buckets_names_the_feature_that_has_them() {
    for (url, feature) in [("s3://videos", "s3"), ("gs://videos", "gcs"), ("az://videos", "azure")] {
        let problem = Setup::new().flag("storage.url", url).only_problem();
        assert!(problem.contains(&format!("--features {feature}")), "{problem}");
    }
}
