// A conversation to continue: one row a message.
import { Button } from "../../../ui/Button";
import { useDraft } from "../../../url/useDraft";
import styles from "./SteerCard.module.css";
import { roles, type Message, type Role } from "./steering";

interface Props {
  messages: Message[];
  onChange: (messages: Message[]) => void;
}

export function Messages({ messages, onChange }: Props) {
  const replace = (i: number, message: Message) => onChange(messages.map((m, j) => (j === i ? message : m)));
  const next: Role = messages.at(-1)?.role === "user" ? "assistant" : "user";
  return (
    <fieldset className={styles.messages}>
      <legend className={styles.label}>Conversation</legend>
      {messages.map((message, i) => (
        <Row
          key={i}
          number={i + 1}
          message={message}
          onChange={(changed) => replace(i, changed)}
          onRemove={messages.length > 1 ? () => onChange(messages.filter((_, j) => j !== i)) : undefined}
        />
      ))}
      <div>
        <Button look="quiet" onClick={() => onChange([...messages, { role: next, text: "" }])}>
          Add a message
        </Button>
      </div>
    </fieldset>
  );
}

interface RowProps {
  number: number;
  message: Message;
  onChange: (message: Message) => void;
  onRemove: (() => void) | undefined;
}

function Row({ number, message, onChange, onRemove }: RowProps) {
  const [text, setText, flush] = useDraft(message.text, (typed) => onChange({ ...message, text: typed }), 250);
  return (
    <div className={styles.message}>
      <select aria-label={`Role of message ${number}`} value={message.role} onChange={(e) => onChange({ role: e.target.value as Role, text })}>
        {roles.map((role) => (
          <option key={role}>{role}</option>
        ))}
      </select>
      <textarea
        aria-label={`Message ${number}`}
        className="mono"
        rows={2}
        spellCheck={false}
        value={text}
        onChange={(e) => setText(e.target.value)}
        onBlur={flush}
        onKeyDown={(e) => {
          if (e.key === "Escape") e.currentTarget.blur();
        }}
      />
      {onRemove && (
        <Button look="quiet" aria-label={`Remove message ${number}`} onClick={onRemove}>
          ✕
        </Button>
      )}
    </div>
  );
}
