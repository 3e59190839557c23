---------------------------- MODULE QuorateTrace ----------------------------
(* Whether a run of the simulator is a behavior of Quorate.                *)
(*                                                                         *)
(* Module Run is made by the simulator.  Each of its lines says what one   *)
(* node is after something happened to it, or what is on its disk.  A line *)
(* is met by steps of that node alone, each of them a step of Quorate; if  *)
(* there are none that lead there, the run is none of Quorate's.           *)
(*                                                                         *)
(* Entries are received one at a time here, since a crash of the real disk *)
(* may fall between any two of them.                                       *)
EXTENDS Quorate, Run

VARIABLE at  \* The line to be met next.

line == Lines[at]
node == line.node

\* What of a state is seen from outside.
Content(s) == <<s.term, s.vote, s.log>>

\* Nothing is written for what a follower found out about its log by comparing alone.
IsSilent(n) ==
    IF Len(hist[n]) > 1 THEN Content(hist[n][2]) = Content(Disk(n)) ELSE FALSE

IsOnDisk(n) ==
    /\ Disk(n).term = line.term
    /\ Disk(n).vote = line.vote
    /\ LastId(Disk(n).log) = line.last

\* The log that the line asks for: what was kept, and what was added.
Goal(n) == SubSeq(Mem(n).log, 1, line.keep) \o line.add

Agree(a, b, i) == i <= Len(a) /\ i <= Len(b) /\ a[i] = b[i]

\* How far a is a prefix of b.
Common(a, b) == CHOOSE i \in 0..Min(Len(a), Len(b)) :
    /\ SubSeq(a, 1, i) = SubSeq(b, 1, i)
    /\ ~Agree(a, b, i + 1)

\* How far a follower's log can be compared with its leader's; 0 if it has none.
Comparable(n) ==
    IF Mem(n).term \in DOMAIN led /\ role[n] = "follower"
    THEN IF n \in led[Mem(n).term].by THEN 0 ELSE Common(Mem(n).log, led[Mem(n).term].log)
    ELSE 0

HasCompared(n) == Mem(n).match >= Comparable(n)

ReceiveTowards(n, goal) ==
    LET same == Common(Mem(n).log, goal) IN
    /\ line.role = "follower"
    /\ line.term >= Mem(n).term /\ line.term \in DOMAIN led
    /\ IF same < Len(goal)
       THEN /\ Agree(goal, led[line.term].log, same + 1)
            /\ Receive(n, line.term, same, same + 1)
       ELSE Mem(n).log = goal /\ Receive(n, line.term, Comparable(n), Comparable(n))

\* Between two lines a pre-candidate may also have taken another's log.
FetchTowards(n, goal) ==
    /\ line.role = "follower" /\ Mem(n).log # goal
    /\ \E term \in DOMAIN led :
        /\ Common(led[term].log, goal) = Len(goal)
        /\ Fetch(n, term, Len(goal))

AppendTowards(n, goal) ==
    LET log == Mem(n).log IN
    /\ role[n] = "leader" /\ Len(log) < Len(goal)
    /\ IF goal[Len(log) + 1].conf = {} THEN Propose(n)
       ELSE \/ GoOn(n)
            \/ \E target \in Targets : Reconfigure(n, target)
    /\ led'[Mem(n).term].log = SubSeq(goal, 1, Len(log) + 1)

Towards(n) ==
    LET s    == Mem(n)
        goal == Goal(n)
    IN  \/ s.term < line.term /\ LearnTerm(n, line.term)
        \/ s.term + 1 = line.term /\ line.vote = n /\ Campaign(n)
        \/ \E ask \in asks : ask.term = line.term /\ ask.from = line.vote /\ Vote(n, ask)
        \/ s.term = line.term /\ line.role = "leader" /\ Lead(n)
        \/ s.term = line.term /\ line.role = "follower" /\ GiveUp(n)
        \/ ReceiveTowards(n, goal)
        \/ FetchTowards(n, goal)
        \/ AppendTowards(n, goal)
        \/ s.term = line.term /\ line.commit <= Len(s.log) /\ Commit(n, line.commit)
        \/ s.term = line.term /\ FollowCommit(n, line.commit)

\* What a node says must be on its disk.
Keeps(n, said) ==
    LET d == Disk(n) IN
    /\ d.term = said.term
    /\ CASE said.what = "ask"  -> d.vote = n
         [] said.what = "vote" -> d.vote = said.to
         [] said.what = "ack"  -> d.match >= said.index

IsMet(n) ==
    /\ Mem(n).term = line.term
    /\ Mem(n).vote = line.vote
    /\ Mem(n).log = Goal(n)
    /\ role[n] = line.role
    /\ commit[n] = line.commit
    /\ HasCompared(n)
    /\ \A i \in DOMAIN line.said : Keeps(n, line.said[i])

Meet == at' = at + 1 /\ PrintT(<<"met", at>>)

StepLine ==
    IF IsSilent(node) THEN Persist(node) /\ UNCHANGED at
    ELSE IF IsMet(node) THEN Meet /\ UNCHANGED vars
    ELSE Towards(node) /\ UNCHANGED at

DiskLine ==
    IF IsOnDisk(node) THEN Meet /\ UNCHANGED vars
    ELSE Persist(node) /\ UNCHANGED at

StartLine ==
    IF IsOnDisk(node) THEN Meet /\ Crash(node)
    ELSE Persist(node) /\ UNCHANGED at

TraceNext ==
    /\ at <= Len(Lines)
    /\ CASE line.kind = "step"  -> StepLine
         [] line.kind = "disk"  -> DiskLine
         [] line.kind = "start" -> StartLine

TraceSpec == Init /\ at = 1 /\ [][TraceNext]_<<vars, at>>
=============================================================================
