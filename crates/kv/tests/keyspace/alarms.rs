use super::*;

fn alarm(action: AlarmAction, kind: AlarmKind) -> Command {
    Command::Alarm {
        action,
        alarm: Alarm {
            member: MemberId(1),
            kind,
        },
    }
}

#[test]
fn no_space_refuses_what_grows_and_nothing_else() {
    let mut keyspace = prefix_of_three();
    grant(&mut keyspace, 7);
    ok(&mut keyspace, alarm(AlarmAction::Activate, AlarmKind::NoSpace));
    assert_eq!(err(&mut keyspace, put_command("a", "1")), Error::NoSpace);
    assert_eq!(
        err(
            &mut keyspace,
            Command::LeaseGrant {
                id: LeaseId(8),
                ttl_secs: 1
            }
        ),
        Error::NoSpace
    );
    let nested = Txn {
        failure: vec![Op::Txn(then(vec![put_op("a")]))],
        ..Txn::default()
    };
    assert_eq!(err(&mut keyspace, Command::Txn(nested)), Error::NoSpace);
    assert_eq!(delete(&mut keyspace, "a"), 1);
    txn(&mut keyspace, then(vec![delete_op(single("b"))]));
    ok(&mut keyspace, compact(3));
    ok(&mut keyspace, revoke(7));
    assert_eq!(keyspace.range(&range(KeyRange::all())).unwrap().count, 1);
    ok(&mut keyspace, alarm(AlarmAction::Deactivate, AlarmKind::NoSpace));
    put(&mut keyspace, "a", "1");
}

#[test]
fn corrupt_refuses_every_write_but_no_read() {
    let mut keyspace = prefix_of_three();
    grant(&mut keyspace, 7);
    ok(&mut keyspace, alarm(AlarmAction::Activate, AlarmKind::Corrupt));
    let writes = [
        put_command("a", "1"),
        delete_command(single("a")),
        Command::Txn(then(vec![])),
        compact(3),
        revoke(7),
    ];
    for write in writes {
        assert_eq!(err(&mut keyspace, write), Error::Corrupt);
    }
    assert!(get(&keyspace, "a").is_some());
}

#[test]
fn alarms_are_listed_by_member() {
    let mut keyspace = Keyspace::new();
    let raised = Alarm {
        member: MemberId(1),
        kind: AlarmKind::NoSpace,
    };
    let answer = ok(&mut keyspace, alarm(AlarmAction::Activate, AlarmKind::NoSpace));
    assert_eq!(answer, Response::Alarm(vec![raised]));
    assert_eq!(keyspace.alarms().collect::<Vec<_>>(), [raised]);
    let answer = ok(&mut keyspace, alarm(AlarmAction::Deactivate, AlarmKind::Corrupt));
    assert_eq!(answer, Response::Alarm(vec![]), "there is none to lift");
}
