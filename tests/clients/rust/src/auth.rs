//! Users, roles, and a cluster that asks who calls.

use crate::{Cluster, Outcome, equal, options, refusal};
use etcd_client::{Client, GetOptions, Permission, UserAddOptions};

pub async fn users_and_roles(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    client.role_add("reader").await?;
    let permissions = [
        Permission::read("123"),
        Permission::write("abc").with_from_key(),
        Permission::read_write("hi").with_range_end("hjj"),
        Permission::write("pp").with_prefix(),
    ];
    for permission in permissions.clone() {
        client.role_grant_permission("reader", permission).await?;
    }
    let mut found = client.role_get("reader").await?.permissions();
    found.sort_by(|one, other| one.key().cmp(other.key()));
    equal("permissions", found, permissions)?;
    client.role_revoke_permission("reader", "123", None).await?;
    equal("left", client.role_get("reader").await?.permissions().len(), 3)?;
    client.user_add("ann", "secret", None).await?;
    client
        .user_add("certified", "", Some(UserAddOptions::new().with_no_pwd()))
        .await?;
    client.user_grant_role("ann", "reader").await?;
    equal("roles", client.user_get("ann").await?.roles(), ["reader"])?;
    client.user_revoke_role("ann", "reader").await?;
    equal("roles", client.user_get("ann").await?.roles().len(), 0)?;
    equal("users", client.user_list().await?.users(), ["ann", "certified"])?;
    for user in ["ann", "certified"] {
        client.user_delete(user).await?;
    }
    client.role_delete("reader").await?;
    let refused = refusal(client.role_get("reader").await);
    equal(
        "deleted",
        refused.as_str(),
        "FailedPrecondition: etcdserver: role name not found",
    )
}

/// Whatever becomes of it, authentication is off at the end: the other checks need that.
pub async fn enabled(cluster: &Cluster) -> Outcome {
    let mut client = cluster.client().await?;
    client.user_add("root", "rootpw", None).await?;
    client.user_grant_role("root", "root").await?;
    client.role_add("some").await?;
    client
        .role_grant_permission("some", Permission::read_write("some/").with_prefix())
        .await?;
    client.user_add("bob", "bobpw", None).await?;
    client.user_grant_role("bob", "some").await?;
    client.auth_enable().await?;
    let outcome = as_users(cluster).await;
    let mut root = log_in(cluster, "root", "rootpw").await?;
    root.auth_disable().await?;
    outcome
}

async fn log_in(cluster: &Cluster, user: &str, password: &str) -> Result<Client, etcd_client::Error> {
    Client::connect(&cluster.endpoints, Some(options().with_user(user, password))).await
}

async fn as_users(cluster: &Cluster) -> Outcome {
    let denied = "PermissionDenied: etcdserver: permission denied";
    let mut nobody = cluster.client().await?;
    let refused = refusal(nobody.get("some/a", None).await);
    equal(
        "nobody",
        refused.as_str(),
        "InvalidArgument: etcdserver: user name is empty",
    )?;
    let wrong = refusal(log_in(cluster, "bob", "guess").await);
    let expected = "InvalidArgument: etcdserver: authentication failed, invalid user ID or password";
    equal("wrong password", wrong.as_str(), expected)?;
    let mut bob = log_in(cluster, "bob", "bobpw").await?;
    bob.put("some/a", "1", None).await?;
    equal("his own", bob.get("some/a", None).await?.count(), 1)?;
    equal(
        "another's",
        refusal(bob.get("other", None).await).as_str(),
        denied,
    )?;
    let everything = Some(GetOptions::new().with_all_keys());
    equal(
        "everything",
        refusal(bob.get("", everything).await).as_str(),
        denied,
    )?;
    equal(
        "adding users",
        refusal(bob.user_add("eve", "pw", None).await).as_str(),
        denied,
    )?;
    let mut watched = bob.watch("other", None).await?;
    let response = crate::watch::next(&mut watched).await?;
    equal("watching another's", response.canceled(), true)?;
    let mut root = log_in(cluster, "root", "rootpw").await?;
    root.put("other", "1", None).await?;
    root.user_change_password("bob", "changed").await?;
    log_in(cluster, "bob", "changed").await?;
    root.user_revoke_role("bob", "some").await?;
    let mut bob = log_in(cluster, "bob", "changed").await?;
    equal(
        "without a role",
        refusal(bob.get("some/a", None).await).as_str(),
        denied,
    )
}
