------------------------------- MODULE Quorate -------------------------------
(***************************************************************************)
(* The replication protocol of Quorate: Raft with joint consensus, where   *)
(* disks are asynchronous and a leader writes its own log beside sending.  *)
(*                                                                         *)
(*  - A node's term, vote and log go to its disk as one ordered stream.    *)
(*    hist[n] is that stream: its head is what the disk holds, its last    *)
(*    element what the node works with.  A crash keeps the head alone.     *)
(*  - Requests for votes, votes and acknowledgments leave when the state   *)
(*    that they speak of is durable, and never after the term has passed.  *)
(*    Entries leave at once.                                               *)
(*  - A configuration is in effect where it is appended, committed or not. *)
(*                                                                         *)
(* Messages may be lost, repeated, delayed and reordered.  So there is no  *)
(* network here: what was ever sent may be received at any time, or never. *)
(* All that a leader ever sends in its term is a slice of led[t].log and a *)
(* commit index up to led[t].commit, for leaders only append.              *)
(*                                                                         *)
(* Left out, because it only forbids what is safe anyway: timers, pre-vote *)
(* (a pre-candidate is a follower here), check-quorum, flow control, and   *)
(* how far a newcomer must have caught up.  Left out, because no log or    *)
(* vote depends on it: reads, leases, forwarding, what commands say.       *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Nodes,        \* All that will ever take part.
    FirstVoters,  \* The voters before the first change.
    Witnesses,    \* Vote, and never campaign.
    Targets,      \* What operators may ask for: records [voters, learners].
    Snapshots,    \* Whether snapshots are taken and sent.
    Fetches,      \* Whether pre-candidates fetch logs that are more up to date.
    Nobody        \* Not a node.

VARIABLES
    hist,       \* Per node: the states on their way to its disk, [term, vote, log, match].
    role,       \* Per node: "follower", "candidate" or "leader".
    commit,     \* Per node: the highest index that it knows to be committed.
    seen,       \* The highest term that any node was ever in.
    asks,       \* Requests for votes that were sent: [term, from, last].
    grants,     \* Votes that were sent and that a candidate waits for: [term, voter, to].
    led,        \* Per term that was led: [by, log, commit, acks].
    committed   \* What was committed first by whom: a sequence of [entry, by].

vars == <<hist, role, commit, seen, asks, grants, led, committed>>

-----------------------------------------------------------------------------
(* Words.                                                                  *)

Min(a, b) == IF a < b THEN a ELSE b
Max(a, b) == IF a > b THEN a ELSE b

\* What optional parts hold: nothing is {}, x is {x}.
Only(set) == CHOOSE x \in set : TRUE

Disk(n) == Head(hist[n])
Mem(n)  == hist[n][Len(hist[n])]

\* The identity of a log's last entry.
LastId(log) == [term |-> IF log = <<>> THEN 0 ELSE log[Len(log)].term, index |-> Len(log)]

Contains(log, index, term) ==
    IF index = 0 THEN TRUE ELSE index <= Len(log) /\ log[index].term = term

\* Paper 5.4.1: "at least as up to date".
UpToDate(last, log) ==
    LET own == LastId(log)
    IN  last.term > own.term \/ (last.term = own.term /\ last.index >= own.index)

Plain(term)           == [term |-> term, conf |-> {}]
Configuring(term, c)  == [term |-> term, conf |-> {c}]

-----------------------------------------------------------------------------
(* Configurations (thesis 4).                                              *)

Simple(voters, learners) ==
    [voters |-> voters, outgoing |-> {}, learners |-> learners, pending |-> {}]

FirstConf == Simple(FirstVoters, {})

\* Where a log says who the members are; 0 if nowhere.
ConfIndexes(log) == {i \in 1..Len(log) : log[i].conf # {}}
ConfIndex(log)   == IF ConfIndexes(log) = {} THEN 0
                    ELSE CHOOSE i \in ConfIndexes(log) : \A j \in ConfIndexes(log) : j <= i
ConfAt(log, i)   == IF i = 0 THEN FirstConf ELSE Only(log[i].conf)

\* Thesis 4.1: the latest in the log, committed or not.  Truncation so rolls it back.
ConfOf(log) == ConfAt(log, ConfIndex(log))

Conf(n) == ConfOf(Mem(n).log)

IsJoint(c)  == c.outgoing # {}
VotersOf(c) == c.voters \cup c.outgoing
Members(c)  == VotersOf(c) \cup c.learners

Majority(set, of) == 2 * Cardinality(set \cap of) > Cardinality(of)

\* Thesis 4.3: a majority of each set of voters.
HasQuorum(c, set) ==
    /\ Majority(set, c.voters)
    /\ IsJoint(c) => Majority(set, c.outgoing)

Newcomers(c) ==
    UNION {target.voters : target \in c.pending} \ VotersOf(c)

\* Stage (a): those who are to vote learn, and the target is in the entry.
Toward(c, target) ==
    [voters   |-> c.voters,
     outgoing |-> {},
     learners |-> c.learners \cup ((target.voters \cup target.learners) \ c.voters),
     pending  |-> {target}]

\* Stage (b): both sets decide; nothing but the final one if the voters stay.
Enter(c, target) ==
    IF c.voters = target.voters THEN Simple(target.voters, target.learners)
    ELSE [voters   |-> target.voters,
          outgoing |-> c.voters,
          learners |-> target.learners \ c.voters,
          pending  |-> {target}]

\* Stage (c).
Leave(c) == Simple(Only(c.pending).voters, Only(c.pending).learners)

FirstStep(c, target) ==
    LET learning == Toward(c, target)
    IN  IF Newcomers(learning) = {} THEN Enter(c, target) ELSE learning

-----------------------------------------------------------------------------
(* What a state on its way to the disk means once it is there.             *)

\* A node that moves to a later term has promised nothing in it.
Adopt(s, term) ==
    IF term > s.term THEN [s EXCEPT !.term = term, !.vote = Nobody, !.match = 0] ELSE s

Write(n, s) ==
    hist' = IF s = Mem(n) THEN hist ELSE [hist EXCEPT ![n] = Append(@, s)]

\* How far m's log is known to equal that of the leader of term t, for its count.
Reached(t, m) == led[t].acks[m]

NoAcks == [m \in Nodes |-> 0]

\* What n waited for as a candidate or leader means nothing once it is neither.
ForgetGrants(n) == grants' = {g \in grants : g.to # n}
ForgetAcks(n) ==
    led' = IF role[n] = "leader" THEN [led EXCEPT ![Mem(n).term].acks = NoAcks] ELSE led

Resign(n) ==
    /\ role' = [role EXCEPT ![n] = "follower"]
    /\ ForgetGrants(n)
    /\ ForgetAcks(n)

-----------------------------------------------------------------------------
(* Disks and crashes.                                                      *)

IsWaiting(n, kind, term) == role[n] = kind /\ Mem(n).term = term

\* A request for votes becomes durable together with the candidate's own vote.
AsksOf(n, before, s) ==
    IF s.vote = n /\ before.term < s.term
    THEN {[term |-> s.term, from |-> n, last |-> LastId(s.log)]}
    ELSE {}

GrantsOf(n, s) ==
    IF s.vote # Nobody /\ IsWaiting(s.vote, "candidate", s.term)
    THEN {[term |-> s.term, voter |-> n, to |-> s.vote]}
    ELSE {}

Acknowledge(n, s) ==
    IF s.term \in DOMAIN led /\ \E m \in Nodes : IsWaiting(m, "leader", s.term)
    THEN [led EXCEPT ![s.term].acks[n] = Max(@, s.match)]
    ELSE led

\* The next state is on the disk; what promised it may leave, unless the term has passed.
Persist(n) ==
    /\ Len(hist[n]) > 1
    /\ hist' = [hist EXCEPT ![n] = Tail(@)]
    /\ LET s == hist[n][2] IN
       IF s.term = Mem(n).term
       THEN /\ asks' = asks \cup AsksOf(n, Disk(n), s)
            /\ grants' = grants \cup GrantsOf(n, s)
            /\ led' = Acknowledge(n, s)
       ELSE UNCHANGED <<asks, grants, led>>
    /\ UNCHANGED <<role, commit, seen, committed>>

\* How far a node may know its log to be committed right after a start: its newest snapshot.
KnownAtStart(n) ==
    IF ~Snapshots THEN {0}
    ELSE {i \in 0..Min(commit[n], Len(Disk(n).log)) :
            SubSeq(Disk(n).log, 1, i) = SubSeq(Mem(n).log, 1, i)}

\* A node dies and starts again from its disk.  One that stays down takes no steps.
Crash(n) ==
    /\ hist' = [hist EXCEPT ![n] = <<[Disk(n) EXCEPT !.match = 0]>>]
    /\ commit' \in {[commit EXCEPT ![n] = i] : i \in KnownAtStart(n)}
    /\ Resign(n)
    /\ UNCHANGED <<seen, asks, committed>>

-----------------------------------------------------------------------------
(* Elections.                                                              *)

MayCampaign(n) == role[n] # "leader" /\ n \in VotersOf(Conf(n)) \ Witnesses

Campaign(n) ==
    /\ MayCampaign(n)
    /\ LET term == Mem(n).term + 1 IN
       /\ Write(n, [Adopt(Mem(n), term) EXCEPT !.vote = n])
       /\ seen' = Max(seen, term)
    /\ role' = [role EXCEPT ![n] = "candidate"]
    /\ ForgetGrants(n)
    /\ UNCHANGED <<commit, asks, led, committed>>

\* Any message of a later term may bring it.
LearnTerm(n, term) ==
    /\ term > Mem(n).term /\ term <= seen
    /\ Write(n, Adopt(Mem(n), term))
    /\ Resign(n)
    /\ UNCHANGED <<commit, seen, asks, committed>>

\* Paper 5.2 and 5.4.1: one vote a term, to a log that is at least as up to date.
MayVote(s, ask) == s.vote = Nobody /\ UpToDate(ask.last, s.log)

Vote(n, ask) ==
    /\ ask.from # n /\ ask.term >= Mem(n).term
    /\ LET s == Adopt(Mem(n), ask.term) IN
       /\ MayVote(s, ask)
       /\ Write(n, [s EXCEPT !.vote = ask.from])
    /\ Resign(n)
    /\ UNCHANGED <<commit, seen, asks, committed>>

VotersFor(n) == {g.voter : g \in {g \in grants : g.to = n /\ g.term = Mem(n).term}}

\* The first entry of a term is the leader's own (thesis 3.6.2 and 6.4).
Lead(n) ==
    /\ role[n] = "candidate"
    /\ HasQuorum(Conf(n), VotersFor(n))
    /\ LET s     == Mem(n)
           log   == Append(s.log, Plain(s.term))
           elect == [by |-> {n}, log |-> log, commit |-> commit[n], acks |-> NoAcks]
       IN /\ Write(n, [s EXCEPT !.log = log, !.match = Len(log)])
          /\ led' = IF s.term \in DOMAIN led THEN [led EXCEPT ![s.term].by = @ \cup {n}]
                    ELSE led @@ (s.term :> elect)
    /\ role' = [role EXCEPT ![n] = "leader"]
    /\ ForgetGrants(n)
    /\ UNCHANGED <<commit, seen, asks, committed>>

\* Denied; or asks anew; or hears of no quorum (thesis 6.2); or was removed (thesis 4.2.2).
GiveUp(n) ==
    /\ role[n] # "follower"
    /\ Resign(n)
    /\ UNCHANGED <<hist, commit, seen, asks, committed>>

-----------------------------------------------------------------------------
(* Replication.                                                            *)

LeaderAppends(n, entry) ==
    LET s   == Mem(n)
        log == Append(s.log, entry)
    IN  /\ role[n] = "leader"
        /\ Write(n, [s EXCEPT !.log = log, !.match = Len(log)])
        /\ led' = [led EXCEPT ![s.term].log = log]
        /\ UNCHANGED <<role, commit, seen, asks, grants, committed>>

Propose(n) == LeaderAppends(n, Plain(Mem(n).term))

\* The log with a leader's entries after prev.  Only a conflict truncates (paper 5.3).
Splice(log, prev, entries) ==
    LET upto == prev + Len(entries)
        same == upto <= Len(log) /\ \A i \in 1..Len(entries) : log[prev + i].term = entries[i].term
    IN  IF same THEN log ELSE SubSeq(log, 1, prev) \o entries

\* Whether n hears the leader of this term: it is in it, or in an earlier one.
Hears(n, term) == term >= Mem(n).term /\ n \notin led[term].by

Follow(n) ==
    IF role[n] = "follower" THEN UNCHANGED <<role, grants, led>> ELSE Resign(n)

\* Paper 5.3: a slice of the leader's log arrives, prev + 1 to upto; none for a heartbeat.
Receive(n, term, prev, upto) ==
    LET s      == Adopt(Mem(n), term)
        leader == led[term].log
        log    == Splice(s.log, prev, SubSeq(leader, prev + 1, upto))
    IN  /\ Hears(n, term)
        /\ Contains(s.log, prev, IF prev = 0 THEN 0 ELSE leader[prev].term)
        /\ SubSeq(log, 1, commit[n]) = SubSeq(s.log, 1, commit[n])
        /\ LET after == [s EXCEPT !.log = log, !.match = Max(@, upto)] IN
           /\ after # Mem(n) \/ role[n] # "follower"
           /\ Write(n, after)
        /\ Follow(n)
        /\ UNCHANGED <<commit, seen, asks, committed>>

\* Thesis 3.6.3: what is committed is in every later leader's log, with nothing to compare.
ClaimCommitted(n) ==
    LET s == Mem(n) IN
    /\ role[n] = "follower"
    /\ s.term \in DOMAIN led /\ Hears(n, s.term)
    /\ commit[n] > s.match
    /\ Write(n, [s EXCEPT !.match = commit[n]])
    /\ UNCHANGED <<role, commit, seen, asks, grants, led, committed>>

\* A follower commits what its leader has, within what was compared.
FollowCommit(n, index) ==
    LET s == Mem(n) IN
    /\ role[n] = "follower"
    /\ s.term \in DOMAIN led /\ Hears(n, s.term)
    /\ index > commit[n] /\ index <= Min(s.match, led[s.term].commit)
    /\ commit' = [commit EXCEPT ![n] = index]
    /\ UNCHANGED <<hist, role, seen, asks, grants, led, committed>>

\* Paper 7: the log up to index is replaced, or known to be committed if it was there.
InstallSnapshot(n, term, index) ==
    LET s      == Adopt(Mem(n), term)
        leader == led[term].log
        keeps  == Contains(s.log, index, leader[index].term)
        log    == IF keeps THEN s.log ELSE SubSeq(leader, 1, index)
    IN  /\ Snapshots
        /\ Hears(n, term)
        /\ index > commit[n]
        /\ Write(n, [s EXCEPT !.log = log, !.match = Max(@, index)])
        /\ commit' = [commit EXCEPT ![n] = index]
        /\ Follow(n)
        /\ UNCHANGED <<seen, asks, committed>>

\* Paper 5.4.2: only entries of its own term are counted.
MayCount(n, index) == Mem(n).log[index].term = Mem(n).term

Agreeing(n, index) == {m \in Nodes : Reached(Mem(n).term, m) >= index}

CommittedAfter(n, index) ==
    LET term == Mem(n).term
        more == [i \in 1..(index - Len(committed)) |->
                    [entry |-> Mem(n).log[Len(committed) + i], by |-> term]]
    IN  IF index > Len(committed) THEN committed \o more ELSE committed

Commit(n, index) ==
    /\ role[n] = "leader"
    /\ index > commit[n] /\ index <= Len(Mem(n).log)
    /\ MayCount(n, index)
    /\ HasQuorum(Conf(n), Agreeing(n, index))
    /\ commit' = [commit EXCEPT ![n] = index]
    /\ led' = [led EXCEPT ![Mem(n).term].commit = index]
    /\ committed' = CommittedAfter(n, index)
    /\ UNCHANGED <<hist, role, seen, asks, grants>>

\* A pre-candidate that is denied for its log alone takes the log of a voter that denied it. Every log
\* that ever was is a prefix of a leader's, and here any may be taken that is more up to date.
Replaces(s, log, upto) ==
    \E i \in 1..Min(upto, Min(Len(log), Len(s.log))) : log[i].term # s.log[i].term

\* What the leader of its term was told of entries that go holds no more in a later term. A node that
\* does not remember whether it told of them leaves its term as well.
LeaveIfTold(s, log) ==
    IF Replaces(s, log, s.match) THEN {Adopt(s, s.term + 1)}
    ELSE IF Replaces(s, log, Len(s.log)) THEN {s, Adopt(s, s.term + 1)}
    ELSE {s}

Fetch(n, term, upto) ==
    LET s   == Mem(n)
        log == SubSeq(led[term].log, 1, upto)
    IN  /\ Fetches
        /\ role[n] = "follower" /\ MayCampaign(n)
        /\ term <= s.term
        /\ UpToDate(LastId(log), s.log) /\ LastId(log) # LastId(s.log)
        /\ ~Replaces(s, log, commit[n])
        /\ \E after \in LeaveIfTold(s, log) :
            /\ Write(n, [after EXCEPT !.log = log])
            /\ seen' = Max(seen, after.term)
        /\ UNCHANGED <<role, commit, asks, grants, led, committed>>

-----------------------------------------------------------------------------
(* Changes of members (thesis 4).                                          *)

\* One step at a time: the members in effect are committed, and so is an entry of the leader's term.
MayChange(n) ==
    /\ role[n] = "leader"
    /\ ConfIndex(Mem(n).log) <= commit[n]
    /\ commit[n] > 0 /\ Mem(n).log[commit[n]].term = Mem(n).term

\* An operator asks.  While newcomers learn, another target may take the place of the first.
Reconfigure(n, target) ==
    LET next == FirstStep(Conf(n), target) IN
    /\ MayChange(n)
    /\ ~IsJoint(Conf(n))
    /\ LeaderAppends(n, Configuring(Mem(n).term, next))

\* The code asks for more: a newcomer must keep up, not only have begun.
HaveCaughtUp(n) == \A m \in Newcomers(Conf(n)) : Reached(Mem(n).term, m) > 0

\* Whoever leads goes on with the change that its log names.
GoOn(n) ==
    LET c == Conf(n) IN
    /\ MayChange(n)
    /\ c.pending # {}
    /\ IsJoint(c) \/ HaveCaughtUp(n)
    /\ LeaderAppends(n, Configuring(Mem(n).term,
           IF IsJoint(c) THEN Leave(c) ELSE Enter(c, Only(c.pending))))

-----------------------------------------------------------------------------

Init ==
    /\ hist = [n \in Nodes |-> <<[term |-> 0, vote |-> Nobody, log |-> <<>>, match |-> 0]>>]
    /\ role = [n \in Nodes |-> "follower"]
    /\ commit = [n \in Nodes |-> 0]
    /\ seen = 0
    /\ asks = {}
    /\ grants = {}
    /\ led = <<>>
    /\ committed = <<>>

Step(n) ==
    \/ Persist(n)
    \/ Crash(n)
    \/ Campaign(n)
    \/ \E term \in 1..seen : LearnTerm(n, term)
    \/ \E ask \in asks : Vote(n, ask)
    \/ Lead(n)
    \/ GiveUp(n)
    \/ Propose(n)
    \/ \E term \in DOMAIN led : \E upto \in 0..Len(led[term].log) : \E prev \in 0..upto :
            Receive(n, term, prev, upto)
    \/ ClaimCommitted(n)
    \/ \E index \in 1..Len(Mem(n).log) : FollowCommit(n, index)
    \/ \E term \in DOMAIN led : \E index \in 1..led[term].commit : InstallSnapshot(n, term, index)
    \/ \E term \in DOMAIN led : \E upto \in 1..Len(led[term].log) : Fetch(n, term, upto)
    \/ \E index \in 1..Len(Mem(n).log) : Commit(n, index)
    \/ \E target \in Targets : Reconfigure(n, target)
    \/ GoOn(n)

Next == \E n \in Nodes : Step(n)

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What must be true.                                                      *)

Terms == DOMAIN led

\* Paper, figure 3: at most one leader a term, ever.
ElectionSafety == \A t \in Terms : Cardinality(led[t].by) = 1

\* Paper, figure 3: a leader only appends.
LeaderAppendOnly == \A n \in Nodes : role[n] = "leader" => led[Mem(n).term].log = Mem(n).log

\* Paper, figure 3: entries of equal index and term are equal, and so is all before them.
Match(a, b) ==
    \A i \in 1..Min(Len(a), Len(b)) :
        a[i].term = b[i].term => SubSeq(a, 1, i) = SubSeq(b, 1, i)

LogMatching == \A m, n \in Nodes : Match(Mem(m).log, Mem(n).log)

\* Paper, figure 3: what was committed is in the log of every later leader.
LeaderCompleteness ==
    \A t \in Terms : \A i \in 1..Len(committed) :
        committed[i].by < t =>
            i <= Len(led[t].log) /\ led[t].log[i] = committed[i].entry

\* Paper, figure 3: nobody takes anything else to be committed.
StateMachineSafety ==
    \A n \in Nodes :
        /\ commit[n] <= Min(Len(Mem(n).log), Len(committed))
        /\ \A i \in 1..commit[n] : Mem(n).log[i] = committed[i].entry

\* A vote that was sent is on the voter's disk for as long as its term is.
VotesAreDurable ==
    \A g \in grants :
        \/ Disk(g.voter).term > g.term
        \/ Disk(g.voter).term = g.term /\ Disk(g.voter).vote = g.to

\* So is what was acknowledged to a leader.
AcknowledgedIsDurable ==
    \A t \in Terms : \A m \in Nodes :
        Disk(m).term <= t =>
            /\ led[t].acks[m] <= Len(Disk(m).log)
            /\ SubSeq(Disk(m).log, 1, led[t].acks[m]) = SubSeq(led[t].log, 1, led[t].acks[m])

\* A second change begins when the first is committed.
OneChangeAtATime ==
    \A n \in Nodes :
        Cardinality({i \in ConfIndexes(Mem(n).log) : i > Len(committed)}) <= 1

QuorumsMeet(a, b) ==
    \A set \in SUBSET (VotersOf(a) \cup VotersOf(b)) :
        ~(HasQuorum(a, set) /\ HasQuorum(b, (VotersOf(a) \cup VotersOf(b)) \ set))

\* Any quorum of a configuration shares a node with any quorum of the next. All are a leader's first.
SuccessiveQuorumsMeet ==
    \A n \in Nodes : role[n] = "leader" =>
        \A i \in ConfIndexes(Mem(n).log) :
            QuorumsMeet(ConfOf(SubSeq(Mem(n).log, 1, i - 1)), ConfAt(Mem(n).log, i))
=============================================================================
