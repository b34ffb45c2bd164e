// Whether what is shown is live.
import { describeError } from "../../api/errors";
import type { JobsState } from "../../jobs/reducer";
import styles from "./Jobs.module.css";

export function Connection({ state }: { state: JobsState }) {
  const text =
    state.connection === "live"
      ? "live"
      : state.connection === "waiting"
        ? `connection lost, trying again${state.error ? `: ${describeError(state.error).message}` : ""}`
        : state.connection === "connecting"
          ? "connecting…"
          : "paused";
  return (
    <span className={styles.connection} data-connection={state.connection} role="status">
      <span aria-hidden="true" /> {text}
    </span>
  );
}
