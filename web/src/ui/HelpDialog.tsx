// The keyboard shortcuts, and the switch that turns them off.
import styles from "./HelpDialog.module.css";
import { Modal } from "./Modal";
import { setShortcutsEnabled, shortcut_help, useShortcutsEnabled } from "./shortcuts";

export function HelpDialog({ onClose }: { onClose: () => void }) {
  const enabled = useShortcutsEnabled();
  return (
    <Modal title="Keyboard" onClose={onClose}>
      <table className={styles.keys}>
        <tbody>
          {shortcut_help.map(([key, what]) => (
            <tr key={key}>
              <th scope="row">
                <kbd>{key}</kbd>
              </th>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p className={styles.note}>Inside a strip of tokens, arrow keys, Home and End move from token to token.</p>
      <label className={styles.switch}>
        <input type="checkbox" checked={enabled} onChange={(e) => setShortcutsEnabled(e.target.checked)} />
        Single-key shortcuts are on
      </label>
    </Modal>
  );
}
