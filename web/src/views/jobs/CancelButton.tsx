// Cancels a job, after a question.
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";

import { jobs } from "../../api/client";
import { Button } from "../../ui/Button";
import { ErrorNote } from "../../ui/ErrorNote";
import { Modal } from "../../ui/Modal";
import styles from "./Jobs.module.css";

export function CancelButton({ id, what }: { id: string; what: string }) {
  const [isAsking, setAsking] = useState(false);
  const cancel = useMutation({
    mutationFn: () => jobs.cancelJob({ jobId: id }),
    onSuccess: () => setAsking(false),
  });
  return (
    <>
      <Button onClick={() => setAsking(true)} aria-label={`Cancel ${what}`}>
        Cancel
      </Button>
      {isAsking && (
        <Modal title={`Cancel ${what}?`} onClose={() => setAsking(false)}>
          <p>It stops at its next step and cannot be continued.</p>
          {cancel.isError && <ErrorNote error={cancel.error} />}
          <div className={styles.confirm}>
            <Button onClick={() => setAsking(false)}>Keep it running</Button>
            <Button look="danger" disabled={cancel.isPending} onClick={() => cancel.mutate()}>
              Cancel the job
            </Button>
          </div>
        </Modal>
      )}
    </>
  );
}
