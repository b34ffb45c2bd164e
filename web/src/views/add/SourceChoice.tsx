// From where: a path on the server, or the hub.
import styles from "../../forms/Form.module.css";
import type { Shared } from "../../forms/useForm";
import { Choice } from "../../ui/Choice";
import { sourceOf, sources } from "./add";

export function SourceChoice(shared: Shared) {
  return (
    <div className={styles.row}>
      <Choice label="From" value={sourceOf(shared.values)} options={sources} onChange={(from) => shared.onChange("from", from)} />
    </div>
  );
}
