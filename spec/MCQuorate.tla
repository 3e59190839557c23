----------------------------- MODULE MCQuorate -----------------------------
(* Bounds for TLC: how many terms, entries and unfinished writes there may *)
(* be, and which nodes are alike.                                          *)
EXTENDS Quorate

CONSTANTS
    MaxTerm,
    MaxPlain,   \* Commands and leaders' first entries in one log.
    MaxOfTerm,  \* The same, of one term.
    MaxConfs,   \* Configurations in one log.
    MaxWrites,  \* States on their way to one disk.
    TargetSize, \* Every set of so many nodes may be asked for; 0 for none.
    FirstLeader \* Who leads term 1 where a behavior begins with a leader; or nobody.

AllOfSize ==
    {[voters |-> set, learners |-> {}] :
        set \in {s \in SUBSET Nodes : s # {} /\ Cardinality(s) = TargetSize}}

Bounds ==
    \A n \in Nodes :
        LET log   == Mem(n).log
            confs == Cardinality(ConfIndexes(log))
        IN  /\ Mem(n).term <= MaxTerm
            /\ Len(hist[n]) <= 1 + MaxWrites
            /\ confs <= MaxConfs
            /\ Len(log) - confs <= MaxPlain

Alike ==
    Permutations(FirstVoters \ {FirstLeader}) \cup Permutations(Nodes \ FirstVoters)

PlainOf(log, term) == Cardinality({i \in 1..Len(log) : log[i] = Plain(term)})

\* Nothing but LearnTerm depends on the highest term seen.
Relevant == <<hist, role, commit, asks, grants, led, committed>>

-----------------------------------------------------------------------------
(* Fewer steps that reach as much.  To learn a term without voting or      *)
(* following in it, or to give up as a candidate, takes possibilities away *)
(* and adds none but to campaign, which a second campaign adds as well.    *)
(* What is committed in two steps or one makes no difference later, and    *)
(* nor does a change to the members that there are.                        *)

Talk(n) ==
    \/ Campaign(n)
    \/ \E ask \in asks : Vote(n, ask)
    \/ Lead(n)
    \/ role[n] = "leader" /\ GiveUp(n)
    \/ PlainOf(Mem(n).log, Mem(n).term) < MaxOfTerm /\ Propose(n)
    \/ \E term \in DOMAIN led : \E upto \in 1..Len(led[term].log) : \E prev \in 0..(upto - 1) :
            Receive(n, term, prev, upto)
    \/ \E term \in DOMAIN led : \E index \in 1..led[term].commit : InstallSnapshot(n, term, index)
    \/ \E term \in DOMAIN led : \E upto \in 1..Len(led[term].log) : Fetch(n, term, upto)
    \/ \E index \in 1..Len(Mem(n).log) : Commit(n, index)
    \/ \E target \in Targets : FirstStep(Conf(n), target) # Conf(n) /\ Reconfigure(n, target)
    \/ GoOn(n)

Hear(n) ==
    /\ Mem(n).term \in DOMAIN led
    /\ FollowCommit(n, Min(Mem(n).match, led[Mem(n).term].commit))

SlowNext == \E n \in Nodes : Persist(n) \/ Crash(n) \/ Talk(n) \/ Hear(n)
SlowDisks == Init /\ [][SlowNext]_vars

\* Every write is durable before anything else happens, so that a crash loses no promise. What a
\* follower knows to be committed is of no use to it as a leader, which begins with an own entry.
Writing == {n \in Nodes : Len(hist[n]) > 1}

FastNext ==
    IF Writing # {} THEN Persist(CHOOSE n \in Writing : TRUE)
    ELSE \E n \in Nodes : Talk(n)

\* All first voters have elected one of them, which has an entry on its disk.
LedInit ==
    LET entry == <<Plain(1)>>
        state(n) ==
            [term  |-> IF n \in FirstVoters THEN 1 ELSE 0,
             vote  |-> IF n \in FirstVoters THEN FirstLeader ELSE Nobody,
             log   |-> IF n = FirstLeader THEN entry ELSE <<>>,
             match |-> IF n = FirstLeader THEN 1 ELSE 0]
    IN  /\ hist = [n \in Nodes |-> <<state(n)>>]
        /\ role = [n \in Nodes |-> IF n = FirstLeader THEN "leader" ELSE "follower"]
        /\ commit = [n \in Nodes |-> 0]
        /\ seen = 1
        /\ asks = {}
        /\ grants = {}
        /\ led = (1 :> [by |-> {FirstLeader}, log |-> entry, commit |-> 0,
                       acks |-> [NoAcks EXCEPT ![FirstLeader] = 1]])
        /\ committed = <<>>

FastDisks == LedInit /\ [][FastNext]_vars
=============================================================================
