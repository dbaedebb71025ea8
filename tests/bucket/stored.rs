//! A job's way into the bucket.

use object_store::{Attribute, GetOptions};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_is_in_the_bucket_byte_for_byte_beside_its_manifest_whether_in_one_piece_or_in_many() {
    let server = Seaweed::start().await;
    for size in ["[[size:200kB]]", LARGE] {
        let world = world(server.settings(Serve::Proxy)).await;
        let id = world.submit(&format!("a fox {size}")).await;
        let job = world.ended(&id).await;
        let store = server.client();
        assert_holds_only(&store, &world.config.storage.root, &job).await;
        let location = Key::from(format!("team/one/{}", job["files"][0]["location"].as_str().unwrap()));
        let head = GetOptions { head: true, ..GetOptions::default() };
        let attributes = store.get_opts(&location, head).await.unwrap().attributes;
        assert_eq!(attributes.get(&Attribute::ContentType).unwrap().as_ref(), "video/mp4");
        for key in keys(&store).await {
            store.delete(&Key::from(key)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_canceled_while_its_file_was_stored_leaves_none() {
    let server = Seaweed::start().await;
    let world = world(server.settings(Serve::Proxy)).await;
    let id = world.submit(&format!("a fox {LARGE} [[slow-download:4MB]]")).await;
    world.until(&id, |job| job["phase"] == "fetching").await;
    world.post(&format!("/v1/jobs/{id}/cancel"), &serde_json::json!({})).await;
    assert_eq!(world.ended(&id).await["status"], "canceled");
    let mut world = world;
    world.stop_server().await;
    assert_eq!(keys(&server.client()).await, Vec::<String>::new());
    assert!(waiting(&world.config.storage.root).is_empty());
}
