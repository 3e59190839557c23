------------------------------ MODULE Mutants ------------------------------
(* Rules broken on purpose, to see that TLC notices: each operator takes   *)
(* the place of one of Quorate's, as check.sh says.                        *)
EXTENDS MCQuorate

CONSTANTS TurnOdd, TurnEven  \* Two nodes that lead by turns, where a search is narrowed so.

\* Votes are sent before they are on the disk.
SendVote(n) ==
    /\ grants' = grants \cup GrantsOf(n, Mem(n))
    /\ grants' # grants
    /\ UNCHANGED <<hist, role, commit, seen, asks, led, committed>>

HastyVotes == Init /\ [][SlowNext \/ \E n \in Nodes : SendVote(n)]_vars

\* Acknowledgments are sent before the entries are on the disk.
SendAcknowledgment(n) ==
    /\ led' = Acknowledge(n, Mem(n))
    /\ led' # led
    /\ UNCHANGED <<hist, role, commit, seen, asks, grants, committed>>

HastyAcknowledgments == Init /\ [][SlowNext \/ \E n \in Nodes : SendAcknowledgment(n)]_vars

\* A leader counts its own entries before they are on its disk.
CountSelf(n, index) == {n} \cup {m \in Nodes : Reached(Mem(n).term, m) >= index}

\* Entries of earlier terms are counted.
CountAll(n, index) == TRUE

\* Votes do not ask for the log.
AnyLog(last, log) == TRUE

\* Entries are taken without a look at what is before them, as far as there is something.
NoLookBack(log, index, term) == index <= Len(log)

\* Every slice truncates.
Overwrite(log, prev, entries) == SubSeq(log, 1, prev) \o entries

\* The next configuration is appended before the last is committed.
ChangeAtOnce(n) == role[n] = "leader"

\* Without a joint configuration.
JumpTo(c, target) == Simple(target.voters, target.learners)

\* A majority of all voters decides while joint.
Union(c, set) == Majority(set, VotersOf(c))

\* A majority of the incoming voters decides while joint.
Incoming(c, set) == Majority(set, c.voters)

\* A configuration is in effect when it is committed.
LateConf(n) == ConfOf(SubSeq(Mem(n).log, 1, commit[n]))

\* Paper, figure 8: two nodes lead by turns.
Figure8 ==
    /\ Bounds
    /\ \A n \in Nodes : role[n] = "leader" =>
           n = (IF Mem(n).term % 2 = 1 THEN TurnOdd ELSE TurnEven)
=============================================================================
