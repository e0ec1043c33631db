"""Keeps every answered prediction, and the labels that come later.

How a server uses it:

    journal = Journal(folder, params.serve.journal)      # never raises for a bad disk; see journal.status()
    journal.start()                                      # sealing, merging, retention and copying, in the background
    recorder = journal.recorder(signature)               # once a loaded model; swapped with it
    ticket = recorder.append(batch, answers, roles, time.time_ns())   # before the answers are sent
    journal.shadow(ticket, shadow_answers)               # any time later, from any thread
    labels = read_feedback(document, signature, most)    # 422 with every problem
    outcomes = journal.feedback(labels, time.time_ns())
    journal.close()                                      # after the last answer
"""
