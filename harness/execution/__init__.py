"""Execution of untrusted submissions: theory of operation.

Processes
---------
::

    harness (parent)                        sandbox of one worker
    +---------------------------+           +------------------------------------------------------+
    | test split, labels, store |           |   server: imported submission                        |
    | Worker -- listener thread |  channel  |                                                      |
    |    |   <==================|===========|=> ready or broken, then exited                       |
    |    |   <------------------|-- pipe ---|-- output                                             |
    |    |                      |           |     | fork, one for each trial                       |
    |    |                      |           |     v                                                |
    |    +-- Trial              |  channel  |   fork: fit, predict                                 |
    |          <================|===========|=> awake, report, fitted, described, predicted, ...   |
    |          <----------------|-- pipe ---|-- output                                             |
    |    SharedArray            |   memfd   |   arrays, mapped privately; answer buffer, shared    |
    +---------------------------+           +------------------------------------------------------+

- The *parent* is the harness, with the code in `parent`. A `Worker` starts one server; a `WorkerPool` has the workers of a
  submission.
- The *server* (`child.server`) imports one submission, and then only forks and reaps. The parent starts it through bubblewrap and
  `child.lockdown` in tier ``sandbox-a``, through setpriv and `child.lockdown` in ``sandbox-b``, and directly in ``process``.
- Each trial is one *fork* of the server (`child.run_trial`). `BatchTrial` fits several configurations, its members, in one fork.
  From the second trial on, the server forks a spare in advance.
- On a cluster a *node agent* (`cluster.node_agent`), a Ray actor, runs the code of `parent` beside the sandbox. The coordinator
  calls it through `cluster.proxies`.

Sockets and descriptors
-----------------------
- A `shared.channel.Channel` is a Unix socket pair that carries JSON messages. The parent has one to the server and one to each
  fork. A fork gets its end of the channel, the write end of an output pipe and the descriptors of its arrays with its first
  message, through the server.
- Descriptors go from parent to child only: the parent receives into a buffer without room for descriptors. No message is a pickle.
- The kernel adds the sender's process id to the first message that the parent receives on a channel, "awake" (SCM_CREDENTIALS).
  With this id the parent makes the control group and starts the `LimitMonitor`. Only then does the parent send the submission to a
  server, or "go" to a fork.
- Arrays lie in memfds (`shared.memory`). Inputs are sealed against writes. The parent creates answer buffers at a fixed size,
  copies the answer, and verifies the copy.
- A frozen model is a pickle in a sealed memfd. The parent passes it on to another worker of the submission and never unpickles
  it.
- The server reports each exit as "exited", at most 4 KiB. The listener thread puts it into the mailbox of the `Trial`.

Trust
-----
- The parent alone has labels of the test split, the scorer and the store. Trials get train and valid (`FitInputs`), and the
  inputs of the test split only as queries. Forks that see these queries belong to fresh workers, so that no other trial can
  remember them.
- Server and forks are untrusted from the import on. The parent checks every message; a status that a fork claims for itself
  cannot improve its row. Times are by the parent's clock.
- A node agent is trusted to keep the sandbox and its limits. It gets code, data and queries, never a label; the coordinator
  verifies the answers.
- A sandbox tier is used only after `child.probe`, run inside it, has failed to reach the canaries (`parent.canary`).

Deaths
------
- *Parent dies*: the server reads the end of its channel, kills its forks and ends. bubblewrap (--die-with-parent) and setpriv
  (--pdeathsig; a later change of user clears it) also end it. The next run removes scratch folders and control groups
  (``sweep``).
- *Server dies*: the kernel kills its forks (PR_SET_PDEATHSIG), and so does the parent's listener thread, which puts None into all
  mailboxes. All running and later trials of the worker fail. If the server dies during the import, `Worker.ready` raises
  PluginError, or TrialFailed for a limit.
- *Fork dies*: the server kills its process group and its orphans, which it adopts as subreaper, deletes its scratch folder, and
  reports the exit. The trial fails with the exceeded limit, or with a status that follows from the exit code. Other forks go on.
- *Fork hangs*: the receive in the parent times out, and the parent kills the fork. If no exit is reported within 2 x 5 s (a
  stopped server), the parent kills the worker.
- *Node lost*, or silent for 60 s beyond the limit of a call: the slot is lost and the call raises SlotLost. `harness.dispatch`
  runs the job again on another slot, three slots at most. `cluster.ray_cluster` requests a new slot in its place.

Limits
------
- By the kernel, at all times: control groups for memory and processes, one for the server and one for each fork, where groups can
  be made; resource limits in the sandbox tiers; the sizes of /tmp and /dev/shm in tier A; seccomp, Landlock and namespaces.
- By `LimitMonitor`, every 0.1 s: CPU seconds, files in a scratch folder on disk, and memory and processes where no group counts.
- By the parent: output bytes (`Log.drain`), seconds of fit and predict (the trial's deadline), seconds of the import (180).

Parent and child never import each other; `shared` is their common ground.
"""
