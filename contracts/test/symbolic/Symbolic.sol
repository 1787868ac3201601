// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Ledger} from "../../src/Ledger.sol";
import {AccountWord} from "../../src/libraries/AccountWord.sol";
import {PayeeWord} from "../../src/libraries/PayeeWord.sol";
import {Statement, batchSpan, readStatement} from "../../src/libraries/Statement.sol";
import {TillWord} from "../../src/libraries/TillWord.sol";

/// The cheat codes that Halmos knows and these proofs use.
interface Vm {
    function assume(bool condition) external pure;
    function setArbitraryStorage(address target) external;
    function warp(uint256 time) external;
}

/// The Ledger with its steps and words laid open.
contract OpenLedger is Ledger {
    constructor() Ledger(IERC20(address(0x70CE)), address(0x78EA5), address(0xA0)) {}

    function spend(address key, uint256 nonce, uint256 total) external {
        _spend(key, _accounts[key], nonce, total);
    }

    function check(uint32 coordinator, address key, bytes calldata data)
        external
        view
        returns (Skip why, uint256 total)
    {
        Batch memory batch;
        batch.coordinator = coordinator;
        return _check(batch, _only(data), key, _accounts[key]);
    }

    /// What a paid statement does to payees, as in settle().
    function share(bytes calldata data) external {
        Batch memory batch;
        _share(batch, _only(data));
        _finish(batch, data);
    }

    function add(Run memory run, uint256 id, uint256 amount) external returns (Run memory) {
        _add(run, id, amount);
        return run;
    }

    function credit(uint256 id, uint256 amount) external {
        _creditPayee(id, amount);
    }

    function signerOf(bytes calldata data) external view returns (address) {
        return _only(data).signer(_domainSeparatorV4());
    }

    function accountWord(address key) external view returns (AccountWord) {
        return _accounts[key];
    }

    function archived(address key, uint256 word) external view returns (uint256) {
        return _archive[key][word];
    }

    function payeeWordOf(uint256 id) external view returns (PayeeWord) {
        return _payees[id];
    }

    function till() external view returns (TillWord) {
        return _till;
    }

    function _only(bytes calldata data) private pure returns (Statement) {
        (uint256 from, uint256 to) = batchSpan(data);
        return readStatement(from, to);
    }
}

/// A Ledger in any state whatever, and statements that anybody may have signed. Halmos runs these by `make prove`; to forge
/// they are code without tests.
///
/// A check_ function holds for all its arguments and for all that the Ledger's storage may be. What it assumes of that
/// storage is always so by another proof or by test/Invariants.t.sol, and is said where it is assumed.
abstract contract Symbolic {
    /// A statement of one line. Who signed it is open: to the proof, a recovered key may be any address.
    struct Sent {
        bytes32 r;
        bytes32 vs;
        uint32 nonce;
        uint40 deadline;
        uint32 provider;
        uint32 verifier;
        uint32 recipe;
        uint96 amount;
    }

    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint32 internal constant COORDINATOR = 1;

    OpenLedger internal ledger;

    function setUp() public virtual {
        ledger = new OpenLedger();
        vm.setArbitraryStorage(address(ledger));
    }

    /// Lets this contract settle.
    function _operate() internal view {
        vm.assume(ledger.operatorOf(COORDINATOR) == address(this));
    }

    function _wire(Sent calldata sent) internal pure returns (bytes memory) {
        return bytes.concat(
            abi.encodePacked(sent.r, sent.vs, sent.nonce, sent.deadline, uint16(1)),
            _line(sent.provider, sent.verifier, sent.recipe, sent.amount)
        );
    }

    function _line(uint32 provider, uint32 verifier, uint32 recipe, uint96 amount)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodePacked(provider, verifier, recipe, amount);
    }
}
