# A server of the Model Context Protocol on standard input and output, in the language of the shell: one message a line.
# It has one tool, `in_stock`. Real servers are programs in any language, or services with a URL.

answer() {
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"
}

while IFS= read -r line; do
  id=${line#*\"id\":}
  id=${id%%[,\}]*}
  case $line in
    *'"method":"initialize"'*)
      answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"shop","version":"1"}}'
      ;;
    *'"method":"tools/list"'*)
      answer '{"tools":[{"name":"in_stock","description":"Says how many pieces of an article are in stock","inputSchema":{"type":"object","properties":{"article":{"type":"string"}},"required":["article"]}}]}'
      ;;
    *'"method":"tools/call"'*)
      case $line in
        *'"article":"teapot"'*) answer '{"content":[{"type":"text","text":"teapot: 12 pieces"}]}' ;;
        *'"article":"kettle"'*) answer '{"content":[{"type":"text","text":"kettle: sold out"}]}' ;;
        *) answer '{"content":[{"type":"text","text":"no such article"}],"isError":true}' ;;
      esac
      ;;
  esac
done
