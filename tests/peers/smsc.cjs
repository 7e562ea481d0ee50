// An SMSC over npm's `smpp`, for tests. What it is asked is printed as lines of JSON; a line of JSON on standard input
// is brought to every bound session as a deliver_sm. The last digits of a recipient say how it answers.
const readline = require('readline');
const smpp = require('smpp');

const say = (what, said) => console.log(JSON.stringify({ what, ...said }));
const sessions = new Set();
let count = 0;

function submitted(session, pdu) {
  const to = String(pdu.destination_addr);
  const short = pdu.short_message;
  say('submit', {
    from: String(pdu.source_addr), from_ton: pdu.source_addr_ton, to, to_ton: pdu.dest_addr_ton,
    coding: pdu.data_coding, esm_class: pdu.esm_class, registered: pdu.registered_delivery,
    text: short.message, parts: (short.udh || []).map((element) => element.toString('hex')),
    payload: pdu.message_payload ? pdu.message_payload.message : null,
  });
  if (to.endsWith('2025550188')) return session.send(pdu.response({ command_status: smpp.ESME_RTHROTTLED }));
  if (to.endsWith('2025550187')) return session.send(pdu.response({ command_status: smpp.ESME_RMSGQFUL }));
  if (to.endsWith('2025550186')) return session.send(pdu.response({ command_status: smpp.ESME_RINVDSTADR }));
  if (to.endsWith('2025550185')) return undefined; // no answer, ever
  if (to.endsWith('2025550184')) return session.close();
  if (to.endsWith('2025550183')) return session.send(pdu.response({ command_status: 0x0000040a })); // its own: opted out
  const id = `m${++count}`;
  session.send(pdu.response({ message_id: id }));
  const state = to.endsWith('2025550179') ? 'UNDELIV' : 'DELIVRD';
  const text = `id:${id} sub:001 dlvrd:001 submit date:2601011200 done date:2601011201 stat:${state} ` +
    `err:${state === 'UNDELIV' ? '00B' : '000'} text:x`;
  if (pdu.registered_delivery) bring(session, { from: to, to: String(pdu.source_addr), text, esm_class: 4 });
  return undefined;
}

function bring(session, said) {
  session.deliver_sm({
    source_addr_ton: 1, source_addr_npi: 1, source_addr: said.from, dest_addr_ton: 1, dest_addr_npi: 1,
    destination_addr: said.to, esm_class: said.esm_class || 0, short_message: said.text,
  }, (answer) => say('taken', { status: answer.command_status, text: said.text }));
}

const server = smpp.createServer({}, (session) => {
  session.on('error', (error) => say('error', { text: error.message }));
  session.on('bind_transceiver', (pdu) => {
    const good = pdu.password === 'pw';
    say('bind', { account: pdu.system_id, good });
    if (!good) return session.send(pdu.response({ command_status: smpp.ESME_RINVPASWD }));
    sessions.add(session);
    return session.send(pdu.response({ system_id: 'smsc' }));
  });
  session.on('enquire_link', (pdu) => { say('enquire', {}); session.send(pdu.response()); });
  session.on('unbind', (pdu) => { say('unbind', {}); session.send(pdu.response()); session.close(); });
  session.on('submit_sm', (pdu) => submitted(session, pdu));
  session.on('close', () => sessions.delete(session));
});
server.listen(0, '127.0.0.1', () => say('ready', { port: server.address().port }));
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const said = JSON.parse(line);
  if (said.hang_up) sessions.forEach((session) => session.destroy());
  else sessions.forEach((session) => bring(session, said));
}).on('close', () => process.exit(0));
